//! Pairs as users have them, `a,b,same`, and the splitting of a line into fields.

use std::path::Path;

use super::{DatasetError, Fault, ImagePair, at, bounded, lines, text};

/// Reads lines of two paths, relative to the file's folder, and `1`, `0`, `true` or `false`. A first line whose third field is none
/// of these is a header.
///
/// # Errors
/// The file is missing or a line has other fields.
pub fn read_csv_pairs(list: &Path) -> Result<Vec<ImagePair>, DatasetError> {
    let folder = list.parent().unwrap_or(Path::new(""));
    parse_pairs(&text(list)?, folder).map_err(|fault| at(list, fault))
}

pub(super) fn parse_pairs(text: &str, folder: &Path) -> Result<Vec<ImagePair>, Fault> {
    let mut pairs = Vec::new();
    for (order, (line, content)) in lines(text).enumerate() {
        let fields = split(line, content)?;
        let [a, b, same] = fields.as_slice() else {
            return Err((line, format!("{} fields; three are expected: path, path, same", fields.len())));
        };
        let same = match same.to_ascii_lowercase().as_str() {
            "1" | "true" => true,
            "0" | "false" => false,
            _ if order == 0 => continue,
            other => {
                return Err((line, format!("{other:?} does not say whether they are the same: 1, 0, true or false")));
            }
        };
        if a.is_empty() || b.is_empty() {
            return Err((line, "a path is empty".to_owned()));
        }
        pairs.push(ImagePair { a: folder.join(a), b: folder.join(b), same });
        bounded(line, pairs.len())?;
    }
    if pairs.is_empty() { Err((0, "there is no pair".to_owned())) } else { Ok(pairs) }
}

/// The fields of one line, trimmed; a field in double quotes may hold commas, and doubled quotes.
pub(super) fn split(line: usize, content: &str) -> Result<Vec<String>, Fault> {
    let mut fields = Vec::new();
    let mut rest = Some(content);
    while let Some(text) = rest {
        let text = text.trim_start();
        let (field, after) = match text.strip_prefix('"') {
            Some(quoted) => {
                unquote(quoted).ok_or((line, "a quote is not closed, or something follows it".to_owned()))?
            }
            None => match text.split_once(',') {
                Some((field, after)) => (field.trim_end().to_owned(), Some(after)),
                None => (text.trim_end().to_owned(), None),
            },
        };
        fields.push(field);
        rest = after;
    }
    Ok(fields)
}

/// The field after its opening quote, and what follows the next comma.
fn unquote(text: &str) -> Option<(String, Option<&str>)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        field.push_str(before);
        match after.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => {
                let after = after.trim_start();
                let next = if after.is_empty() { None } else { Some(after.strip_prefix(',')?) };
                return Some((field, next));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_header_is_optional_and_paths_are_relative() {
        let with = parse_pairs("left,right,same\na.jpg,b.jpg,1\nb.jpg, c.jpg ,FALSE\r\n", Path::new("d")).unwrap();
        let without = parse_pairs("a.jpg,b.jpg,true\n\nb.jpg,c.jpg,0", Path::new("d")).unwrap();
        assert_eq!(with, without);
        assert_eq!(with[1], ImagePair { a: "d/b.jpg".into(), b: "d/c.jpg".into(), same: false });
    }

    #[test]
    fn a_fault_names_its_line() {
        for (list, line) in [
            ("", 0),
            ("a,b,same", 0),
            ("a,b", 1),
            ("a,b,1\na,b,maybe", 2),
            ("a,b,1,x", 1),
            ("a,,1", 1),
            ("a,\"b,1", 1),
            ("a,\"b\"c,1", 1),
        ] {
            assert_eq!(parse_pairs(list, Path::new("d")).unwrap_err().0, line, "{list:?}");
        }
    }

    #[test]
    fn quotes_hold_commas() {
        assert_eq!(split(1, r#" "a, ""b""" ,c, "" ,"#).unwrap(), [r#"a, "b""#, "c", "", ""]);
        assert_eq!(split(1, "").unwrap(), [""]);
    }

    proptest! {
        #[test]
        fn what_is_quoted_comes_back(fields in prop::collection::vec("[a-z\", ]{0,8}", 1..5)) {
            let line: Vec<String> = fields.iter().map(|f| format!("\"{}\"", f.replace('"', "\"\""))).collect();
            prop_assert_eq!(split(1, &line.join(",")).unwrap(), fields);
        }

        #[test]
        fn no_text_is_a_panic(text in "[a-z,\"\n 01]{0,80}", any in any::<String>()) {
            let _ = parse_pairs(&text, Path::new("d"));
            let _ = parse_pairs(&any, Path::new("d"));
        }
    }
}
