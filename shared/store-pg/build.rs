//! Tells cargo that a new migration is a change of this crate. Nothing is generated here.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
