//! Generates the messages of `proto/` and their proto3 JSON mapping. `protox` compiles them, so no `protoc` is needed.

use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let file = root.join("facewire/v1/facewire.proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile([&file], [&root])?;
    prost_build::Config::new()
        .bytes(["."])
        .compile_well_known_types()
        .extern_path(".google.protobuf", "::pbjson_types")
        .compile_fds(descriptors.clone())?;
    pbjson_build::Builder::new()
        .register_descriptors(&descriptors.encode_to_vec())?
        .extern_path(".google.protobuf", "::pbjson_types")
        .preserve_proto_field_names()
        // `"matched": false` is an answer, not an absence.
        .emit_fields()
        .build(&[".facewire.v1"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    Ok(std::fs::write(out.join("messages.txt"), messages(&file, &root)?)?)
}

/// What the messages are on the wire, for `src/compat_tests.rs`: a line for each message, field, value of an enum, and for what is
/// reserved.
fn messages(file: &Path, root: &Path) -> Result<String, Box<dyn Error>> {
    let descriptors = protox::compile([file], [root])?;
    let mut listed = String::new();
    let (mut messages, mut enums) = (Vec::new(), Vec::new());
    for file in descriptors.file.iter().filter(|file| file.package() == "facewire.v1") {
        messages.extend(file.message_type.iter().map(|message| (message.name().to_owned(), message)));
        enums.extend(file.enum_type.iter().map(|choice| (choice.name().to_owned(), choice)));
    }
    while let Some((name, message)) = messages.pop() {
        writeln!(listed, "message {name}")?;
        for field in &message.field {
            let label = if field.proto3_optional() { "explicit" } else { field.label().as_str_name() };
            let kind = if field.type_name().is_empty() { field.r#type().as_str_name() } else { field.type_name() };
            writeln!(listed, "field {name} {} {} {label} {kind}", field.number(), field.name())?;
        }
        for number in message.reserved_range.iter().flat_map(|range| range.start()..range.end()) {
            writeln!(listed, "reserved {name} {number}")?;
        }
        for reserved in &message.reserved_name {
            writeln!(listed, "reserved {name} {reserved}")?;
        }
        messages.extend(message.nested_type.iter().map(|inner| (format!("{name}.{}", inner.name()), inner)));
        enums.extend(message.enum_type.iter().map(|inner| (format!("{name}.{}", inner.name()), inner)));
    }
    for (name, choice) in enums {
        for value in &choice.value {
            writeln!(listed, "value {name} {} {}", value.number(), value.name())?;
        }
    }
    let mut lines: Vec<&str> = listed.lines().collect();
    lines.sort_unstable();
    Ok(lines.join("\n") + "\n")
}
