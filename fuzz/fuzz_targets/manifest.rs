//! Pack manifests: any text as `pack.toml`. Run it with `cargo fuzz run --sanitizer none manifest` from the workspace
//! root; what it finds becomes a test of `shared/inference`.

#![no_main]

use facewire_inference::{BUILTIN_PACKS, PackManifest, builtin_manifest};
use libfuzzer_sys::fuzz_target;

/// Cuts a built-in manifest in two and puts the text in between, so that more than the parser is reached.
fn grafted(text: &str) -> Option<String> {
    let (first, rest) = (text.chars().next()? as usize, text.get(1..)?);
    let name = BUILTIN_PACKS.get(first % BUILTIN_PACKS.len())?;
    let whole = builtin_manifest(name).ok()?.to_toml().ok()?;
    let at = rest.len().wrapping_mul(31) % whole.len();
    let line = whole.get(..at)?.rfind('\n').map_or(0, |at| at + 1);
    Some(format!("{}{rest}\n{}", whole.get(..line)?, whole.get(line..)?))
}

fuzz_target!(|text: &str| {
    for text in [Some(text.to_owned()), grafted(text)].into_iter().flatten() {
        let Ok(manifest) = PackManifest::parse(&text) else { continue };
        assert!(manifest.files().all(|file| !file.name.contains(['/', '\\']) && file.name != ".."));
        assert!(manifest.embedder.faces_per_run() >= 1);
        let again = manifest.to_toml().expect("what was read can be written");
        assert_eq!(PackManifest::parse(&again).expect("what was written can be read"), manifest);
    }
});
