//! A model whose graph begins with what the embedder does to its faces otherwise: uint8 pixels in, cast, laid out by
//! planes, normalised, and mirrored. The model's own nodes, weights, opset and IR version stay as they are; of its outputs the
//! first stays alone, which is the one that is used.

use std::collections::HashSet;

use facewire_vision::AlignedFace;

use super::build::{FLOAT, FLOAT16, Size, UINT8, indices, int, ints, node, scalar, value_info};
use super::wire::{Field, bytes, fields, header};
use crate::manifest::{ColourOrder, EmbedderSpec};

/// The input of the new graph: `[n, 112, 112, 3]`. Whatever is added begins with the same letters, so that it meets no name
/// of the model's.
pub(crate) const FACES: &str = "facewire/faces";

/// From here on Sub and Div take a tensor and one number.
const MIN_OPSET: u64 = 7;

/// Fields of `ModelProto`.
pub(super) const GRAPH: u64 = 7;
const OPSET_IMPORT: u64 = 8;

/// Fields of `GraphProto`.
pub(super) const INITIALIZER: u64 = 5;
const INPUT: u64 = 11;
pub(super) const OUTPUT: u64 = 12;

/// What became of a model.
#[derive(Debug)]
pub(crate) struct FaceGraph {
    /// The file's new content.
    pub(crate) model: Vec<u8>,
    /// Whether the mirror images' rows follow the faces' rows in its output.
    pub(crate) mirrors: bool,
    /// Rows of every run, where the model takes no other number.
    pub(crate) rows: Option<usize>,
}

impl FaceGraph {
    /// Faces of every run, where the model takes no other number.
    pub(crate) fn faces(&self) -> Option<usize> {
        self.rows.map(|rows| if self.mirrors { rows / 2 } else { rows })
    }
}

/// An input or an output of a model.
#[derive(Debug)]
pub(super) struct Port<'a> {
    whole: &'a [u8],
    name: &'a str,
    pub(super) kind: u64,
    /// Of each dimension its fixed size.
    pub(super) shape: Vec<Option<usize>>,
}

/// The model with pixels as its input. The message says what it is that cannot be changed so.
pub(crate) fn takes_faces(model: &[u8], spec: &EmbedderSpec) -> Result<FaceGraph, String> {
    let whole = fields(model).ok_or("the file is no ONNX model")?;
    let opset = opset(&whole).ok_or("the file is no ONNX model: it names no version of the operators")?;
    if opset < MIN_OPSET {
        return Err(format!("its operators are of version {opset}, and pixels as input need {MIN_OPSET} or newer"));
    }
    let mut graphs = whole.iter().filter_map(|field| field.bytes_of(GRAPH));
    let (Some(graph), None) = (graphs.next(), graphs.next()) else {
        return Err("the file is no ONNX model: it has not one graph".to_owned());
    };
    let graph = fields(graph).ok_or("the file is no ONNX model: its graph is cut off")?;
    let input = input(&graph).ok_or("it has no input that is a tensor")?;
    let output = graph.iter().find_map(|field| port(field, OUTPUT)).ok_or("it has no output that is a tensor")?;
    if input.shape.len() != 4 || ![FLOAT, FLOAT16].contains(&input.kind) {
        return Err("its input is no [n, 3, 112, 112] of floats".to_owned());
    }
    let rows = input.shape.first().copied().flatten();
    let mirrors = spec.flip && spec.max_rows >= 2 && rows.is_none_or(|rows| rows % 2 == 0);
    let made = FaceGraph { model: Vec::new(), mirrors, rows };
    let (before, after) = (before(&input, &made, spec), after(&output, spec.dim));
    let kept = graph.iter().filter(|field| field.number != OUTPUT && !std::ptr::eq(field.whole, input.whole));
    let kept = kept.map(|field| field.whole);
    let parts: Vec<&[u8]> = [before.as_slice()].into_iter().chain(kept).chain([after.as_slice()]).collect();
    Ok(FaceGraph { model: joined(&whole, &parts), ..made })
}

/// The model's fields, with these parts as its graph.
fn joined(model: &[Field<'_>], graph: &[&[u8]]) -> Vec<u8> {
    let header = header(GRAPH, graph.iter().map(|part| part.len()).sum());
    let mut parts = Vec::new();
    for field in model {
        match field.bytes_of(GRAPH) {
            Some(_) => parts.extend([header.as_slice()].into_iter().chain(graph.iter().copied())),
            None => parts.push(field.whole),
        }
    }
    parts.concat()
}

/// The version of ONNX's own operators.
fn opset(model: &[Field<'_>]) -> Option<u64> {
    model.iter().filter_map(|field| fields(field.bytes_of(OPSET_IMPORT)?)).find_map(|opset| {
        let domain = opset.iter().find_map(|field| field.bytes_of(1)).unwrap_or_default();
        let ours = domain.is_empty() || domain == b"ai.onnx";
        opset.iter().find_map(|field| field.number_of(2)).filter(|_| ours)
    })
}

/// The first input that is not a weight: files of IR version 3 list those too, of which there may be thousands.
pub(super) fn input<'a>(graph: &[Field<'a>]) -> Option<Port<'a>> {
    let name = |field: &Field<'a>| fields(field.bytes_of(INITIALIZER)?)?.iter().find_map(|field| field.bytes_of(8));
    let weights: HashSet<&[u8]> = graph.iter().filter_map(name).collect();
    graph.iter().filter_map(|field| port(field, INPUT)).find(|port| !weights.contains(port.name.as_bytes()))
}

/// What a `ValueInfoProto` in this field of a graph says of a tensor.
pub(super) fn port<'a>(field: &Field<'a>, number: u64) -> Option<Port<'a>> {
    let info = fields(field.bytes_of(number)?)?;
    let name = std::str::from_utf8(info.iter().find_map(|field| field.bytes_of(1))?).ok()?;
    let kind = fields(info.iter().find_map(|field| field.bytes_of(2))?)?;
    let tensor = fields(kind.iter().find_map(|field| field.bytes_of(1))?)?;
    let kind = tensor.iter().find_map(|field| field.number_of(1))?;
    let sizes = tensor.iter().find_map(|field| field.bytes_of(2)).map_or_else(|| Some(Vec::new()), fields)?;
    let size = |field: &Field<'a>| {
        let fixed = fields(field.bytes_of(1)?)?.iter().find_map(|field| field.number_of(1));
        Some(fixed.and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0))
    };
    Some(Port { whole: field.whole, name, kind, shape: sizes.iter().filter_map(size).collect() })
}

/// The new input, and the nodes from it to the model's own.
fn before(input: &Port<'_>, made: &FaceGraph, spec: &EmbedderSpec) -> Vec<u8> {
    let side = AlignedFace::SIDE as usize;
    let faces = made.faces().map_or(Size::Free("faces"), Size::Fixed);
    let shape = [faces, Size::Fixed(side), Size::Fixed(side), Size::Fixed(3)];
    let (float, planes, bgr, normal) = ("facewire/float", "facewire/planes", "facewire/bgr", "facewire/normal");
    let (mean, scale, centred) = ("facewire/mean", "facewire/scale", "facewire/centred");
    let (mirrored, both) = ("facewire/mirrored", "facewire/both");
    let mut parts = vec![
        bytes(INPUT, &value_info(FACES, UINT8, &shape)),
        // TensorRT takes bytes at an input only, so the cast comes first.
        node("Cast", &[FACES], float, &[int("to", FLOAT)]),
        node("Transpose", &[float], planes, &[ints("perm", &[0, 3, 1, 2])]),
    ];
    let ordered = if spec.colour == ColourOrder::Bgr { bgr } else { planes };
    if spec.colour == ColourOrder::Bgr {
        parts.push(reversed(planes, bgr, 1, 3));
    }
    parts.extend([scalar(mean, spec.mean), scalar(scale, spec.scale)]);
    // In this order and by Div, as it is without the graph: the same numbers to the last bit.
    parts.push(node("Sub", &[ordered, mean], centred, &[]));
    parts.push(node("Div", &[centred, scale], normal, &[]));
    let last = if made.mirrors { both } else { normal };
    if made.mirrors {
        parts.push(reversed(normal, mirrored, 3, i64::from(AlignedFace::SIDE)));
        parts.push(node("Concat", &[normal, mirrored], both, &[int("axis", 0)]));
    }
    // To half precision where the model wants that; else the runtime takes it out again.
    parts.push(node("Cast", &[last], input.name, &[int("to", input.kind)]));
    parts.concat()
}

/// Nodes that turn an axis of this length around. By Gather: Slice knows no negative step before version 10.
fn reversed(from: &str, to: &str, axis: u64, length: i64) -> Vec<u8> {
    let order = format!("{to}/order");
    let nodes = [
        indices(&order, &(0..length).rev().collect::<Vec<i64>>()),
        node("Gather", &[from, &order], to, &[int("axis", axis)]),
    ];
    nodes.concat()
}

/// The output as it is, or the nodes to one in single precision, where the model has it in half.
fn after(output: &Port<'_>, dim: usize) -> Vec<u8> {
    if output.kind != FLOAT16 {
        return output.whole.to_vec();
    }
    let name = "facewire/embeddings";
    let cast = node("Cast", &[output.name], name, &[int("to", FLOAT)]);
    [cast, bytes(OUTPUT, &value_info(name, FLOAT, &[Size::Free("rows"), Size::Fixed(dim)]))].concat()
}

#[cfg(test)]
mod tests {
    use super::super::wire::number;
    use super::*;
    use crate::manifest::ModelFile;

    #[test]
    fn the_first_output_is_the_only_one() {
        let file = ModelFile { name: String::new(), sha256: String::new() };
        let spec = EmbedderSpec {
            file,
            dim: 8,
            mean: 0.0,
            scale: 1.0,
            colour: ColourOrder::Rgb,
            max_rows: 4,
            flip: true,
            gpu: None,
        };
        let port = |field: u64, name: &str, kind: u64, shape: &[Size<'_>]| bytes(field, &value_info(name, kind, shape));
        for (kind, first) in [(FLOAT, "face"), (FLOAT16, "facewire/embeddings")] {
            let image = [Size::Free("n"), Size::Fixed(3), Size::Fixed(112), Size::Fixed(112)];
            let rows = [Size::Free("n"), Size::Fixed(8)];
            let outputs = [port(OUTPUT, "face", kind, &rows), port(OUTPUT, "other", FLOAT16, &rows)].concat();
            let graph = [port(INPUT, "image", kind, &image), outputs].concat();
            let model = [bytes(GRAPH, &graph), bytes(OPSET_IMPORT, &number(2, 13))].concat();
            let made = takes_faces(&model, &spec).unwrap().model;
            let made = fields(&made).unwrap();
            let graph = fields(made.iter().find_map(|field| field.bytes_of(GRAPH)).unwrap()).unwrap();
            let outputs: Vec<Port<'_>> = graph.iter().filter_map(|field| super::port(field, OUTPUT)).collect();
            let named: Vec<(&str, u64)> = outputs.iter().map(|port| (port.name, port.kind)).collect();
            assert_eq!(named, [(first, FLOAT)]);
        }
    }

    #[test]
    fn the_input_is_the_first_that_is_no_weight() {
        let port = |name: &str| bytes(INPUT, &value_info(name, FLOAT, &[Size::Free("n"), Size::Fixed(3)]));
        let weight = |name: &str| bytes(INITIALIZER, &bytes(8, name.as_bytes()));
        // As files of IR version 3 have them: weights among the inputs, before the model's own and behind it.
        let all = [port("w1"), port("data"), port("w2"), port("other"), weight("w2"), weight("w1")].concat();
        let graph = fields(&all).unwrap();
        assert_eq!(input(&graph).map(|port| port.name), Some("data"));
        let weights = [port("w1"), weight("w1")].concat();
        assert!(input(&fields(&weights).unwrap()).is_none());
    }
}
