//! How wide the rows are that a model takes and gives, read from its file without a session: services that run no model have to
//! know it too.

use super::build::FLOAT;
use super::faces::{GRAPH, OUTPUT, input, port};
use super::wire::fields;

/// Widths of the input and the output. The message says why the model is none of rows.
pub(crate) fn widths(model: &[u8]) -> Result<[usize; 2], String> {
    let whole = fields(model).ok_or("the file is no ONNX model")?;
    let mut graphs = whole.iter().filter_map(|field| field.bytes_of(GRAPH));
    let (Some(graph), None) = (graphs.next(), graphs.next()) else {
        return Err("the file is no ONNX model: it has not one graph".to_owned());
    };
    let graph = fields(graph).ok_or("the file is no ONNX model: its graph is cut off")?;
    let taken = input(&graph).ok_or("it has no input that is a tensor")?;
    let mut outputs = graph.iter().filter_map(|field| port(field, OUTPUT));
    let (Some(given), None) = (outputs.next(), outputs.next()) else {
        return Err("it has not one output that is a tensor".to_owned());
    };
    // The number of rows has to be free.
    let ([None, Some(from)], [_, Some(to)]) = (taken.shape.as_slice(), given.shape.as_slice()) else {
        return Err("its input is not [n, width], or its output is not [n, width]".to_owned());
    };
    if taken.kind != FLOAT || given.kind != FLOAT {
        return Err("its numbers are not 32-bit floats".to_owned());
    }
    Ok([*from, *to])
}
