//! A model that tests write themselves, as the bytes of an ONNX file: the mean of each colour plane is the embedding.

/// A length-delimited protobuf field.
fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 1 << 14);
    let mut out = vec![field << 3 | 2, content.len() as u8 & 0x7F | 0x80, (content.len() >> 7) as u8];
    out.extend(content);
    out
}

fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

fn value_info(name: &str, dimensions: &[&[u8]]) -> Vec<u8> {
    typed(name, FLOAT, dimensions)
}

const FLOAT: u8 = 1;
const FLOAT16: u8 = 10;

fn typed(name: &str, kind: u8, dimensions: &[&[u8]]) -> Vec<u8> {
    let shape: Vec<u8> = dimensions.iter().flat_map(|dimension| bytes(1, dimension)).collect();
    let tensor = [number(1, kind), bytes(2, &shape)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

fn node(operator: &str, input: &str, output: &str) -> Vec<u8> {
    [bytes(1, input.as_bytes()), bytes(2, output.as_bytes()), bytes(4, operator.as_bytes())].concat()
}

/// The mean of each colour in the left and in the right half of the picture: `[n, 3, 112, 112]` → `[n, 6]`, red left, red
/// right, and so on. It tells a face from its mirror image.
pub(crate) fn halves_model(batch: &[u8]) -> Vec<u8> {
    let free = |name: &str| bytes(2, name.as_bytes());
    // Name, ints, and the kind of the attribute.
    let half = |name: &str| {
        bytes(5, &[bytes(1, name.as_bytes()), number(8, 112), number(8, 56), vec![0xA0, 0x01, 7]].concat())
    };
    let pool = [node("AveragePool", "input", "pooled"), half("kernel_shape"), half("strides")].concat();
    let (three, six, side) = (number(1, 3), number(1, 6), number(1, 112));
    let graph = [
        bytes(1, &pool),
        bytes(1, &node("Flatten", "pooled", "output")),
        bytes(2, b"halves"),
        bytes(11, &value_info("input", &[batch, &three, &side, &side])),
        bytes(12, &value_info("output", &[&free("m"), &six])),
    ]
    .concat();
    [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 13))].concat()
}

/// `[n, 3, 112, 112]` → GlobalAveragePool → Flatten → `[n, 3]`; `batch` is [`free`] or [`fixed`].
pub(crate) fn mean_colour_model(batch: &[u8]) -> Vec<u8> {
    let free = |name: &str| bytes(2, name.as_bytes());
    let (three, side) = (number(1, 3), number(1, 112));
    let graph = [
        bytes(1, &node("GlobalAveragePool", "input", "pooled")),
        bytes(1, &node("Flatten", "pooled", "output")),
        bytes(2, b"means"),
        bytes(11, &value_info("input", &[batch, &three, &side, &side])),
        bytes(12, &value_info("output", &[&free("m"), &three])),
    ]
    .concat();
    [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 13))].concat()
}

/// [`mean_colour_model`] with an input in half precision.
pub(crate) fn half_mean_colour_model() -> Vec<u8> {
    let (n, m, three, side) = (free(), bytes(2, b"m"), number(1, 3), number(1, 112));
    // Name, number, and the kind of the attribute.
    let to = bytes(5, &[bytes(1, b"to"), number(3, FLOAT), vec![0xA0, 0x01, 2]].concat());
    let graph = [
        bytes(1, &[node("Cast", "input", "single"), to].concat()),
        bytes(1, &node("GlobalAveragePool", "single", "pooled")),
        bytes(1, &node("Flatten", "pooled", "output")),
        bytes(2, b"means"),
        bytes(11, &typed("input", FLOAT16, &[&n, &three, &side, &side])),
        bytes(12, &value_info("output", &[&m, &three])),
    ]
    .concat();
    [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 13))].concat()
}

/// `[n, width]` → Exp → `[n, width]`: rows that are not normalised.
pub(crate) fn exp_model(width: u8) -> Vec<u8> {
    rows_model(&bytes(1, &node("Exp", "input", "output")), width)
}

/// `[n, width]` → Log → Log → `[n, width]`: of numbers below 1, no numbers.
pub(crate) fn log_of_log_model(width: u8) -> Vec<u8> {
    let nodes = [bytes(1, &node("Log", "input", "log")), bytes(1, &node("Log", "log", "output"))].concat();
    rows_model(&nodes, width)
}

fn rows_model(nodes: &[u8], width: u8) -> Vec<u8> {
    let (rows, width) = (bytes(2, b"n"), number(1, width));
    let graph = [
        nodes.to_vec(),
        bytes(2, b"rows"),
        bytes(11, &value_info("input", &[&rows, &width])),
        bytes(12, &value_info("output", &[&rows, &width])),
    ]
    .concat();
    [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 13))].concat()
}

/// The model with a part that names weights in another file.
pub(crate) fn with_weights_elsewhere(mut model: Vec<u8>) -> Vec<u8> {
    let weight = [bytes(8, b"w"), number(14, 1)].concat();
    model.extend(bytes(7, &bytes(5, &weight)));
    model
}

/// A batch of any size.
pub(crate) fn free() -> Vec<u8> {
    bytes(2, b"n")
}

/// A batch of exactly this size.
pub(crate) fn fixed(rows: u8) -> Vec<u8> {
    number(1, rows)
}
