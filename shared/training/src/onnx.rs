//! The head as an ONNX model: the few messages of `onnx.proto` that it needs, with that file's field numbers, and no more.

use prost::Message;

use crate::head::Weights;
use crate::settings::Shape;

/// Of operators: `LpNormalization` and Gemm are in it, and ONNX Runtime has had it since 1.12.
const OPSET: i64 = 17;
/// Of the file: the first one with that set.
const IR_VERSION: i64 = 8;
/// `TensorProto.DataType.FLOAT`.
const FLOAT: i32 = 1;
/// `AttributeProto.AttributeType.INT`.
const INT: i32 = 2;
/// Names of the model's ends.
const INPUT: &str = "embedding";
const OUTPUT: &str = "projected";

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(string, tag = "2")]
    producer_name: String,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSetIdProto>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSetIdProto {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfoProto>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<AttributeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, tag = "3")]
    i: i64,
    #[prost(int32, tag = "20")]
    r#type: i32,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(string, tag = "8")]
    name: String,
    /// Little-endian.
    #[prost(bytes = "vec", tag = "9")]
    raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfoProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorTypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<TensorShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<DimensionProto>,
}

/// One of the two.
#[derive(Clone, PartialEq, Message)]
struct DimensionProto {
    #[prost(int64, optional, tag = "1")]
    dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    dim_param: Option<String>,
}

/// Gemm, Relu, Gemm, `LpNormalization`, for any number of rows.
pub(crate) fn model(shape: Shape, weights: &Weights<'_>) -> Vec<u8> {
    let Shape { input, hidden, output } = shape;
    let graph = GraphProto {
        node: vec![
            node("Gemm", &[INPUT, "first.weight", "first.bias"], "first", &[("transB", 1)]),
            node("Relu", &["first"], "hidden", &[]),
            node("Gemm", &["hidden", "second.weight", "second.bias"], "second", &[("transB", 1)]),
            node("LpNormalization", &["second"], OUTPUT, &[("axis", 1), ("p", 2)]),
        ],
        name: "projection_head".to_owned(),
        initializer: vec![
            tensor("first.weight", &[hidden, input], weights.first),
            tensor("first.bias", &[hidden], weights.first_bias),
            tensor("second.weight", &[output, hidden], weights.second),
            tensor("second.bias", &[output], weights.second_bias),
        ],
        input: vec![value(INPUT, input)],
        output: vec![value(OUTPUT, output)],
    };
    let opset = OperatorSetIdProto { domain: String::new(), version: OPSET };
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "facewire".to_owned(),
        graph: Some(graph),
        opset_import: vec![opset],
    };
    model.encode_to_vec()
}

fn node(operator: &str, inputs: &[&str], output: &str, attributes: &[(&str, i64)]) -> NodeProto {
    let attribute = |(name, i): &(&str, i64)| AttributeProto { name: (*name).to_owned(), i: *i, r#type: INT };
    NodeProto {
        input: inputs.iter().map(|input| (*input).to_owned()).collect(),
        output: vec![output.to_owned()],
        name: format!("make_{output}"),
        op_type: operator.to_owned(),
        attribute: attributes.iter().map(attribute).collect(),
    }
}

fn tensor(name: &str, dims: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        dims: dims.iter().map(|dim| *dim as i64).collect(),
        data_type: FLOAT,
        name: name.to_owned(),
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

/// n rows of this width.
fn value(name: &str, width: usize) -> ValueInfoProto {
    let any = DimensionProto { dim_value: None, dim_param: Some("n".to_owned()) };
    let fixed = DimensionProto { dim_value: Some(width as i64), dim_param: None };
    let shape = TensorShapeProto { dim: vec![any, fixed] };
    let tensor_type = TensorTypeProto { elem_type: FLOAT, shape: Some(shape) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the Python package `onnx` 1.23 writes for the same model, its empty domain left out; its checker takes it, and ONNX Runtime
    /// runs it.
    const SMALL: &str = concat!(
        "0808120866616365776972653ad3030a4d0a09656d62656464696e670a0c66697273742e7765696768740a0a66697273742e",
        "62696173120566697273741a0a6d616b655f6669727374220447656d6d2a0d0a067472616e73421801a001020a220a056669",
        "727374120668696464656e1a0b6d616b655f68696464656e220452656c750a4e0a0668696464656e0a0d7365636f6e642e77",
        "65696768740a0b7365636f6e642e6269617312067365636f6e641a0b6d616b655f7365636f6e64220447656d6d2a0d0a0674",
        "72616e73421801a001020a4b0a067365636f6e64120970726f6a65637465641a0e6d616b655f70726f6a6563746564220f4c",
        "704e6f726d616c697a6174696f6e2a0b0a04617869731801a001022a080a01701802a00102120f70726f6a656374696f6e5f",
        "686561642a1e080208011001420c66697273742e7765696768744a080000003f000000bf2a1a08021001420a66697273742e",
        "626961734a080000803e000080be2a1f080108021001420d7365636f6e642e7765696768744a080000803f000080bf2a1708",
        "011001420b7365636f6e642e626961734a04000000405a1c0a09656d62656464696e67120f0a0d080112090a0312016e0a02",
        "0801621c0a0970726f6a6563746564120f0a0d080112090a0312016e0a02080142021011",
    );

    fn made(shape: Shape, weights: &[f32]) -> Vec<u8> {
        model(shape, &Weights::of(shape, weights))
    }

    #[test]
    fn a_small_model_has_the_bytes_of_the_reference() {
        let shape = Shape { input: 1, hidden: 2, output: 1 };
        let bytes = made(shape, &[0.5, -0.5, 0.25, -0.25, 1.0, -1.0, 2.0]);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, SMALL);
    }

    #[test]
    fn the_weights_are_in_it_and_any_number_of_rows_is_taken() {
        let shape = Shape { input: 4, hidden: 6, output: 3 };
        let weights: Vec<f32> = (0..shape.parameters()).map(|i| i as f32 * 0.37 - 5.0).collect();
        let model = ModelProto::decode(made(shape, &weights).as_slice()).unwrap();
        assert_eq!(model.opset_import, [OperatorSetIdProto { domain: String::new(), version: 17 }]);
        let graph = model.graph.unwrap();
        let held = graph.initializer.iter().flat_map(|tensor| {
            assert_eq!(tensor.dims.iter().product::<i64>() as usize * 4, tensor.raw_data.len());
            tensor.raw_data.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value))
        });
        assert_eq!(held.collect::<Vec<f32>>(), weights);
        let operators: Vec<&str> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
        assert_eq!(operators, ["Gemm", "Relu", "Gemm", "LpNormalization"]);
        // Whatever a node takes is an end, a weight, or what the node before it makes.
        for (node, before) in graph.node.iter().zip([INPUT, "first", "hidden", "second"]) {
            assert_eq!(node.input[0], before);
            assert!(node.input[1..].iter().all(|name| graph.initializer.iter().any(|tensor| tensor.name == *name)));
        }
        for (ends, name, width) in [(&graph.input, INPUT, 4), (&graph.output, OUTPUT, 3)] {
            assert_eq!((ends.len(), ends[0].name.as_str()), (1, name));
            let dims = ends[0].r#type.clone().unwrap().tensor_type.unwrap().shape.unwrap().dim;
            assert_eq!((dims[0].dim_value, dims[0].dim_param.as_deref()), (None, Some("n")));
            assert_eq!((dims.len(), dims[1].dim_value), (2, Some(width)));
        }
    }
}
