//! The Python loop that `bench pipeline` is compared with: `deploy/bench/python_loop.py`, run by an interpreter of the user's.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use facewire_composition::models::DEFAULT_PACK;
use serde::Deserialize;
use tokio::process::Command;

use super::cores;

/// The script.
const LOOP: &str = include_str!("../../../../../deploy/bench/python_loop.py");
/// What it imports.
const MODULES: &str = "import cv2, numpy, onnxruntime";
/// Longest run of it.
const TIMEOUT: Duration = Duration::from_secs(900);

/// An interpreter that has what the script imports.
#[derive(Debug)]
pub(super) struct Python(PathBuf);

#[derive(Debug, Deserialize)]
struct Answer {
    found: u64,
    crops_per_second: f64,
}

/// The interpreter that was named, else `python3`, if it has the modules; the script knows the default pack's models alone.
pub(super) async fn find(named: Option<&Path>, pack: &str) -> anyhow::Result<Python> {
    if pack != DEFAULT_PACK {
        bail!("it runs the models of the pack {DEFAULT_PACK}, and not those of {pack}");
    }
    let interpreter = named.unwrap_or(Path::new("python3")).to_owned();
    let asked = Command::new(&interpreter).args(["-c", MODULES]).stdin(Stdio::null()).output().await;
    let asked = asked.with_context(|| format!("{} cannot be run", interpreter.display()))?;
    if !asked.status.success() {
        bail!(
            "{} lacks a module: pip install numpy onnxruntime opencv-python-headless, or name another with --python",
            interpreter.display()
        );
    }
    Ok(Python(interpreter))
}

impl Python {
    /// As many processes as the bare loop has threads and the measurement says: the script by itself counts cores that this
    /// process may not use.
    fn command(&self, script: &Path) -> Command {
        let mut command = Command::new(&self.0);
        command.arg(script).args(["--processes", &cores().to_string()]);
        command
    }

    /// The same pictures through the loop.
    pub(super) async fn crops_per_second(
        &self,
        models: &Path,
        pictures: &[Bytes],
        crops: usize,
        gallery: usize,
    ) -> anyhow::Result<f64> {
        let directory = tempfile::tempdir()?;
        let (script, faces) = (directory.path().join("python_loop.py"), directory.path().join("pictures"));
        tokio::fs::write(&script, LOOP).await?;
        tokio::fs::create_dir(&faces).await?;
        for (number, picture) in pictures.iter().enumerate() {
            tokio::fs::write(faces.join(format!("{number:06}")), picture).await?;
        }
        let mut command = self.command(&script);
        command.arg("--models").arg(models).arg("--pictures").arg(&faces);
        command.args(["--crops", &crops.to_string(), "--gallery", &gallery.to_string()]);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output =
            tokio::time::timeout(TIMEOUT, command.output()).await.context("the Python loop does not end")??;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "the Python loop failed: {said}");
        let answer: Answer = serde_json::from_slice(&output.stdout).context("the Python loop's answer")?;
        anyhow::ensure!(answer.found > 0, "the Python loop found no face: it measured nothing");
        Ok(answer.crops_per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn another_pack_is_not_compared() {
        // The interpreter is not even asked.
        let refused = find(Some(Path::new("no-python")), "buffalo_l").await.unwrap_err().to_string();
        assert!(refused.contains("default") && refused.contains("buffalo_l"), "{refused}");
    }

    #[test]
    fn the_loop_has_as_many_processes_as_is_said_of_it() {
        let command = Python(PathBuf::from("python3")).command(Path::new("loop.py"));
        let arguments: Vec<_> = command.as_std().get_args().map(|argument| argument.to_string_lossy()).collect();
        assert_eq!(arguments, ["loop.py", "--processes", &cores().to_string()]);
    }
}
