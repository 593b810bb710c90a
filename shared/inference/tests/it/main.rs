//! The chain on real models: what the reference computed, packs, the gate under spoiled pictures. The models and ONNX
//! Runtime come from `assets`; where they cannot be had, these tests fail rather than pass unseen.

#[cfg(test)]
mod assets;
#[cfg(test)]
mod batch;
#[cfg(test)]
mod chain;
#[cfg(test)]
mod gate;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod heads;
#[cfg(test)]
mod onnx;
#[cfg(test)]
mod packs;
#[cfg(test)]
mod pixels;
#[cfg(test)]
mod scrfd;
#[cfg(test)]
mod tight;
