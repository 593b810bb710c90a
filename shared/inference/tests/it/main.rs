//! The chain on real models: what the reference computed, packs, the gate under spoiled pictures. The models and ONNX
//! Runtime come from `assets`; where they cannot be had, these tests fail rather than pass unseen.

mod assets;
mod batch;
mod chain;
mod gate;
mod golden;
mod packs;
mod scrfd;
mod tight;
