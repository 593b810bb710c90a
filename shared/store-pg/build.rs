//! Lists the migrations, as `sqlx::migrate!` would: that macro brings a second copy of the driver into the build.

use std::env;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=migrations");
    let mut names = Vec::new();
    for entry in fs::read_dir("migrations")? {
        names.push(entry?.file_name().into_string().map_err(|name| format!("{} is no name", name.display()))?);
    }
    names.sort();
    let mut list = "[\n".to_owned();
    for name in names {
        let stem = name.strip_suffix(".sql").ok_or_else(|| format!("{name} is no SQL"))?;
        let (version, description) = stem.split_once('_').ok_or_else(|| format!("{name} has no number"))?;
        let (version, description) = (version.parse::<i64>()?, description.replace('_', " "));
        let text = format!("include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/migrations/{name}\"))");
        writeln!(list, "    ({version}, \"{description}\", {text}),")?;
    }
    list.push(']');
    Ok(fs::write(Path::new(&env::var("OUT_DIR")?).join("migrations.rs"), list)?)
}
