//! Tells cargo that a new migration is a change of this crate. Nothing is generated here.

#[expect(clippy::print_stdout, reason = "cargo reads a build script's instructions from stdout")]
fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
