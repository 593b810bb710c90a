//! The embed stage on a real nats-server and a real ONNX Runtime, with a model that takes batches of any size.

#[cfg(test)]
mod batch;
#[cfg(test)]
#[path = "../../../../shared/inference/tests/it/onnx.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod onnx;
