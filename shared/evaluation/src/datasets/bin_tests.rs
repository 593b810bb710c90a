//! Pickles written by hand, as Python 2 and 3 and numpy 1 and 2 write them, and hostile ones.

use super::*;
use proptest::prelude::*;

const NUMPY_1: &[u8] = b"cnumpy.core.multiarray\n_reconstruct\n";

fn array(reconstruct: &[u8], kind: &[u8], shape: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = reconstruct.to_vec();
    // _reconstruct(ndarray, (0,), b'b')
    bytes.extend(b"cnumpy\nndarray\nK\x00\x85C\x01b\x87R");
    // The state: (1, shape, dtype(kind, False, True) with its own state, False, data)
    bytes.extend(b"(K\x01");
    bytes.extend(shape);
    bytes.extend(b"cnumpy\ndtype\nX\x02\x00\x00\x00");
    bytes.extend(kind);
    bytes.extend(b"\x89\x88\x87R(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89");
    bytes.extend([b'B', data.len() as u8, 0, 0, 0]);
    bytes.extend(data);
    bytes.extend(b"tb");
    bytes
}

/// (images, issame) of one pair, by protocol 3.
fn pair(a: &[u8], b: &[u8], same: &[u8]) -> Vec<u8> {
    [b"\x80\x03](", a, b, b"e", same, b"\x86."].concat()
}

fn encoded(set: &BinSet) -> Vec<&[u8]> {
    let image = |i| match set.image(i) {
        Some(BinImage::Encoded(data)) => data,
        other => panic!("{other:?}"),
    };
    (0..set.images()).map(image).collect()
}

#[test]
fn bytes_and_arrays_are_read() {
    let one = array(NUMPY_1, b"u1", b"K\x03\x85", b"abc");
    let column = array(NUMPY_1, b"u1", b"K\x03K\x01\x86", b"abc");
    let set = BinSet::parse(pair(&column, &one, b"](\x88e")).unwrap();
    assert_eq!(encoded(&set), [b"abc", b"abc"]);
    let two = array(b"\x8c\x16numpy._core.multiarray\x8c\x0c_reconstruct\x93", b"u1", b"K\x04\x85", b"defg");
    let set = BinSet::parse(pair(&one, &two, b"](\x88e")).unwrap();
    assert_eq!((encoded(&set), set.same()), (vec![b"abc".as_slice(), b"defg"], [true].as_slice()));
    let set = BinSet::parse(pair(b"C\x02ab", b"B\x01\x00\x00\x00c", b"]\x89a")).unwrap();
    assert_eq!((encoded(&set), set.same()), (vec![b"ab".as_slice(), b"c"], [false].as_slice()));
}

#[test]
fn python_2_and_protocol_2_are_read() {
    // Python 2's strings, kept and recalled; issame as numbers.
    let set = BinSet::parse(pair(b"U\x02abq\x01", b"h\x01", b"](K\x01e")).unwrap();
    assert_eq!(encoded(&set), [b"ab", b"ab"]);
    // _codecs.encode('aÿ', 'latin1')
    let latin = b"c_codecs\nencode\nX\x03\x00\x00\x00a\xc3\xbfX\x06\x00\x00\x00latin1\x86R";
    let set = BinSet::parse(pair(latin, b"U\x01b", b"](\x88e")).unwrap();
    assert_eq!(encoded(&set), [b"a\xff".as_slice(), b"b"]);
}

#[test]
fn pixels_have_a_shape() {
    let pixels = array(NUMPY_1, b"u1", b"K\x01K\x02K\x03\x87", b"rgbRGB");
    let set = BinSet::parse(pair(&pixels, &pixels, &array(NUMPY_1, b"b1", b"K\x01\x85", b"\x01"))).unwrap();
    assert_eq!(set.image(1), Some(BinImage::Pixels { height: 1, width: 2, data: b"rgbRGB" }));
    assert_eq!((set.same(), set.image(2)), ([true].as_slice(), None));
    let wrong = array(NUMPY_1, b"u1", b"K\x02K\x02K\x03\x87", b"rgbRGB");
    let problem = BinSet::parse(pair(&wrong, &wrong, b"](\x88e")).unwrap_err();
    assert!(problem.contains("image 0") && problem.contains("[2, 2, 3]"), "{problem}");
}

#[test]
fn nothing_is_called_that_is_not_on_the_list() {
    for (evil, hint) in [
        (b"cos\nsystem\nU\x02id\x85R".as_slice(), "\"system\" of \"os\""),
        (b"cnumpy\nload\nU\x02id\x85R", "\"load\" of \"numpy\""),
        (b"cbuiltins\neval\nU\x02id\x85R", "eval"),
        (b"\x8c\x05posix\x8c\x06system\x93", "posix"),
        // NEWOBJ, INST, OBJ, EXT1, PERSID, BINPERSID
        (b"cnumpy\nndarray\n)\x81", "opcode 0x81"),
        (b"ios\nsystem\n", "opcode 0x69"),
        (b"o", "opcode 0x6f"),
        (b"\x82\x01", "opcode 0x82"),
        (b"P1\n", "opcode 0x50"),
        // What is on the list, called in another way.
        (b"cnumpy\nndarray\n)R", "a call"),
        (b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R", "codec"),
        (b"cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R", "bytes (u1)"),
    ] {
        let problem = BinSet::parse(pair(evil, b"U\x01a", b"](\x88e")).unwrap_err();
        assert!(problem.contains(hint), "{problem}");
    }
}

#[test]
fn what_is_no_set_of_pairs_is_said() {
    let none = b"](e";
    for (bytes, hint) in [
        (b"".to_vec(), "at byte 0"),
        (b"\x80\x03".to_vec(), "at byte 2"),
        (b"\x80\x00.".to_vec(), "protocol 0"),
        (b"\x80\x03N.".to_vec(), "not a pickle of"),
        (b"\x80\x03)\x85.".to_vec(), "1 parts"),
        (b"\x80\x03NN\x86.".to_vec(), "no list"),
        (pair(b"U\x01a", b"U\x01b", none), "2 images for 0 pairs"),
        (pair(b"U\x01a", b"K\x01", b"](\x88e"), "image 1"),
        (pair(b"U\x01a", b"U\x01b", b"](Ne"), "issame 0"),
        (pair(b"B\xff\xff\xff\xffa", b"U\x01b", none), "announced"),
        (pair(b"\x8e\xff\xff\xff\xff\xff\xff\xff\xffa", b"U\x01b", none), "announced"),
        (pair(b"h\x09", b"U\x01b", none), "remembered as 9"),
    ] {
        let problem = BinSet::parse(bytes).unwrap_err();
        assert!(problem.contains(hint), "{hint}: {problem}");
    }
}

#[test]
fn a_small_file_does_not_grow() {
    // One text, decoded a hundred times.
    let mut bytes = b"\x80\x03](c_codecs\nencode\nq\x00X\xc8\x00\x00\x00".to_vec();
    bytes.extend([b'a'; 200]);
    bytes.extend(b"X\x06\x00\x00\x00latin1\x86q\x01R");
    for _ in 0..100 {
        bytes.extend(b"h\x00h\x01R");
    }
    bytes.extend(b"e](\x88e\x86.");
    assert!(BinSet::parse(bytes).unwrap_err().contains("again and again"));
}

#[test]
fn a_file_that_is_missing_is_named() {
    let error = BinSet::read(Path::new("nowhere/lfw.bin")).unwrap_err().to_string();
    assert!(error.contains("nowhere/lfw.bin"), "{error}");
}

proptest! {
    #[test]
    fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = BinSet::parse(bytes);
    }

    /// Bytes near the real thing get further than random ones.
    #[test]
    fn no_damage_is_a_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>()) {
        let image = array(NUMPY_1, b"u1", b"K\x03\x85", b"abc");
        let mut bytes = pair(&image, b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00latin1\x86R", b"](\x88eq\x01");
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(set) = BinSet::parse(bytes.clone()) {
            let seen = (0..=set.images()).filter_map(|i| set.image(i)).count();
            prop_assert_eq!(seen, set.images());
        }
        bytes.truncate(cut.index(bytes.len()));
        let _ = BinSet::parse(bytes);
    }

    /// Opcodes of the list in any order.
    #[test]
    fn no_order_of_opcodes_is_a_panic(order in prop::collection::vec(0usize..24, 0..60)) {
        let parts: [&[u8]; 24] = [
            b"(", b"N", b"\x88", b"K\x01", b"]", b")", b"\x85", b"\x86", b"\x87", b"t", b"l", b"a", b"e", b"U\x01a",
            b"X\x06\x00\x00\x00latin1", b"q\x00", b"h\x00", b"\x94", b"\x93", b"R", b"b", b"cnumpy\nndarray\n",
            b"c_codecs\nencode\n", b"cnumpy.core.multiarray\n_reconstruct\n",
        ];
        let mut bytes: Vec<u8> = order.iter().flat_map(|i| parts[*i].iter().copied()).collect();
        bytes.push(b'.');
        let _ = BinSet::parse(bytes);
    }
}
