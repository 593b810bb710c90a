//! facewire
fn main() {}
