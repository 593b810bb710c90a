//! Parts of an ONNX graph, written as `onnx.proto` numbers them.

use super::wire::{bytes, number};

/// `TensorProto.DataType`.
pub(super) const FLOAT: u64 = 1;
pub(super) const UINT8: u64 = 2;
const INT64: u64 = 7;
pub(super) const FLOAT16: u64 = 10;

/// `AttributeProto.AttributeType`.
const INT: u64 = 2;
const TENSOR: u64 = 4;
const INTS: u64 = 7;

/// A size of a shape.
#[derive(Debug, Clone, Copy)]
pub(super) enum Size<'a> {
    Fixed(usize),
    Free(&'a str),
}

/// A field `node` of a graph.
pub(super) fn node(operator: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut node: Vec<u8> = inputs.iter().flat_map(|input| bytes(1, input.as_bytes())).collect();
    // The output, and the node's own name.
    node.extend([2, 3].into_iter().flat_map(|field| bytes(field, output.as_bytes())));
    node.extend(bytes(4, operator.as_bytes()));
    node.extend(attributes.iter().flatten());
    bytes(1, &node)
}

/// An attribute with a number.
pub(super) fn int(name: &str, value: u64) -> Vec<u8> {
    attribute(name, INT, &number(3, value))
}

/// An attribute with a list of numbers.
pub(super) fn ints(name: &str, values: &[u64]) -> Vec<u8> {
    let list: Vec<u8> = values.iter().flat_map(|value| number(8, *value)).collect();
    attribute(name, INTS, &list)
}

fn attribute(name: &str, kind: u64, value: &[u8]) -> Vec<u8> {
    let (name, kind) = (bytes(1, name.as_bytes()), number(20, kind));
    bytes(5, &[name.as_slice(), value, kind.as_slice()].concat())
}

/// A node that gives one number.
pub(super) fn scalar(output: &str, value: f32) -> Vec<u8> {
    constant(output, FLOAT, &[], &value.to_le_bytes())
}

/// A node that gives a list of indices.
pub(super) fn indices(output: &str, values: &[i64]) -> Vec<u8> {
    let list: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    constant(output, INT64, &number(1, values.len() as u64), &list)
}

/// As a node and not as an initializer, which files of IR version 3 list among the inputs too.
fn constant(output: &str, kind: u64, dims: &[u8], data: &[u8]) -> Vec<u8> {
    let (kind, data) = (number(2, kind), bytes(9, data));
    let tensor = bytes(5, &[dims, kind.as_slice(), data.as_slice()].concat());
    node("Constant", &[], output, &[attribute("value", TENSOR, &tensor)])
}

/// The content of a field `input` or `output` of a graph.
pub(super) fn value_info(name: &str, kind: u64, shape: &[Size<'_>]) -> Vec<u8> {
    let dimension = |size: &Size<'_>| match size {
        Size::Fixed(size) => number(1, *size as u64),
        Size::Free(name) => bytes(2, name.as_bytes()),
    };
    let shape: Vec<u8> = shape.iter().flat_map(|size| bytes(1, &dimension(size))).collect();
    let tensor = [number(1, kind), bytes(2, &shape)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}
