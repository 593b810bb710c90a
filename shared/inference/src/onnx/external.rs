//! Weights that a model keeps in other files: no checksum of its own file covers them.

use super::faces::{GRAPH, INITIALIZER};
use super::wire::fields;

/// `TensorProto.data_location`, and where it says that the values lie in another file.
const DATA_LOCATION: u64 = 14;
const EXTERNAL: u64 = 1;

/// Messages within messages; ONNX Runtime's own reader takes no more than that.
const MAX_DEPTH: usize = 100;

/// The messages of a model that may have a tensor in them.
#[derive(Debug, Clone, Copy)]
enum Message {
    Model,
    Training,
    Function,
    Graph,
    Node,
    Attribute,
    Sparse,
    Tensor,
}

impl Message {
    /// The fields that lead on to a tensor, as `onnx.proto` numbers them.
    fn parts(self) -> &'static [(u64, Message)] {
        match self {
            Self::Model => &[(GRAPH, Self::Graph), (20, Self::Training), (25, Self::Function)],
            Self::Training => &[(1, Self::Graph), (2, Self::Graph)],
            Self::Function => &[(7, Self::Node), (11, Self::Attribute)],
            Self::Graph => &[(1, Self::Node), (INITIALIZER, Self::Tensor), (15, Self::Sparse)],
            Self::Node => &[(5, Self::Attribute)],
            Self::Attribute => &[
                (5, Self::Tensor),
                (6, Self::Graph),
                (10, Self::Tensor),
                (11, Self::Graph),
                (22, Self::Sparse),
                (23, Self::Sparse),
            ],
            Self::Sparse => &[(1, Self::Tensor), (2, Self::Tensor)],
            Self::Tensor => &[],
        }
    }
}

/// Whether a model's weights, or a part of them, lie in other files. What is no model has none.
pub(crate) fn keeps_weights_elsewhere(model: &[u8]) -> bool {
    elsewhere(Message::Model, model, 0)
}

fn elsewhere(message: Message, bytes: &[u8], depth: usize) -> bool {
    let Some(fields) = fields(bytes).filter(|_| depth < MAX_DEPTH) else { return false };
    if let Message::Tensor = message {
        return fields.iter().any(|field| field.number_of(DATA_LOCATION) == Some(EXTERNAL));
    }
    fields.iter().any(|field| {
        let mut parts = message.parts().iter();
        parts.any(|(number, part)| field.bytes_of(*number).is_some_and(|bytes| elsewhere(*part, bytes, depth + 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::wire::{bytes, number};
    use super::*;

    #[test]
    fn weights_in_other_files_are_found_wherever_they_are_named() {
        let [inside, outside] = [0, EXTERNAL].map(|place| [bytes(8, b"w"), number(DATA_LOCATION, place)].concat());
        let constant = |tensor: &[u8]| bytes(1, &bytes(5, &bytes(5, tensor)));
        let graphs = |tensor: &[u8]| {
            [
                bytes(INITIALIZER, tensor),
                bytes(15, &bytes(1, tensor)),
                constant(tensor),
                // In a branch of an If.
                bytes(1, &bytes(5, &bytes(6, &constant(tensor)))),
            ]
        };
        for graph in graphs(&outside) {
            assert!(keeps_weights_elsewhere(&bytes(GRAPH, &graph)));
            assert!(keeps_weights_elsewhere(&bytes(20, &bytes(1, &graph))));
        }
        assert!(keeps_weights_elsewhere(&bytes(25, &bytes(7, &bytes(5, &bytes(5, &outside))))));
        assert!(graphs(&inside).iter().all(|graph| !keeps_weights_elsewhere(&bytes(GRAPH, graph))));
        assert!(!keeps_weights_elsewhere(b"this is no model") && !keeps_weights_elsewhere(&[]));
        let deep = (0..1000).fold(Vec::new(), |graph, _| bytes(1, &bytes(5, &bytes(6, &graph))));
        assert!(!keeps_weights_elsewhere(&bytes(GRAPH, &deep)));
    }
}
