//! `pack.toml`: what a model pack is made of and how its models want their input. No file is read here but through text.

use facewire_domain::{Calibration, ScoreModel, model};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::checksum::hex;
use crate::head::HeadSpec;
use crate::provider::Provider;

/// A pack of models that belong together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackManifest {
    /// `[a-z0-9_]`, e.g. `buffalo_l`.
    pub name: String,
    /// The publisher's version.
    pub version: String,
    /// The weights' licence, as a person should read it.
    pub licence: String,
    /// Where the weights come from.
    pub source: String,
    /// How far the checksums can be trusted.
    pub trust: Trust,
    /// Finds faces.
    pub detector: DetectorSpec,
    /// Finds eyes, nose and mouth.
    pub landmarks: LandmarkSpec,
    /// Makes embeddings.
    pub embedder: EmbedderSpec,
    /// Accuracies that the publisher reports, to compare one's own with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<Published>,
    /// Predicts whether a crop will be recognised; without it every face has the score 1, and no limit of the score holds
    /// anything back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<ScoreModel>,
    /// What the embedder's similarities mean; absent where nobody measured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// The projection head that follows the embedder. An installation has one, and no `pack.toml`.
    #[serde(skip)]
    pub head: Option<HeadSpec>,
}

/// An accuracy that was published; not measured here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The test set: `LFW`, `CFP-FP`, `AgeDB-30`.
    pub set: String,
    /// Verification accuracy, 0 to 1.
    pub accuracy: f64,
    /// Who says so, and where.
    pub source: String,
}

/// Where the checksums come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// They were known before the files were fetched.
    Pinned,
    /// They were taken from the files when the pack was installed: later changes are noticed, an early one is not.
    FirstUse,
}

/// A model file and its checksum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// A bare file name beside `pack.toml`.
    pub name: String,
    /// 64 hexadecimal digits; empty only in the template of a pack that is not installed yet.
    #[serde(default)]
    pub sha256: String,
}

/// What a detector is like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectorSpec {
    /// Which decoding its outputs need.
    pub kind: DetectorKind,
    /// Its model.
    pub file: ModelFile,
    /// Width and height of the input in pixels; for SCRFD multiples of 32.
    pub input: [u32; 2],
    /// The input for pictures that are no larger than it, where the model's input is free (SCRFD): a crop of 200 pixels
    /// blown up to 640 costs four times the work of one at 320, and shows no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop_input: Option<[u32; 2]>,
    /// Faces below are dropped, 0 to 1.
    pub score_threshold: f32,
    /// Of two boxes that overlap more than this (intersection over union), the weaker is dropped.
    pub nms_iou: f32,
}

impl DetectorSpec {
    fn validate(&self) -> Result<(), String> {
        for (key, [width, height]) in [("input", Some(self.input)), ("crop_input", self.crop_input)]
            .into_iter()
            .filter_map(|(k, v)| Some((k, v?)))
        {
            if !(32..=4096).contains(&width) || !(32..=4096).contains(&height) {
                return Err(format!("detector.{key}: {width}x{height} is outside 32 to 4096"));
            }
            if self.kind == DetectorKind::Scrfd && (width % 32 != 0 || height % 32 != 0) {
                return Err(format!("detector.{key}: {width}x{height} must be multiples of 32 for scrfd"));
            }
        }
        if self.kind == DetectorKind::FacepluginRfb && self.crop_input.is_some() {
            return Err("detector.crop_input: the input of faceplugin_rfb is fixed".to_owned());
        }
        for (key, value) in [("score_threshold", self.score_threshold), ("nms_iou", self.nms_iou)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("detector.{key}: {value} is outside 0 to 1"));
            }
        }
        Ok(())
    }
}

/// Which decoding a detector's outputs need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DetectorKind {
    /// The default pack's `fr_detect`: the image stretched, decoded boxes, no landmarks.
    FacepluginRfb,
    /// InsightFace's SCRFD with key points.
    Scrfd,
}

/// Where the five points come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LandmarkSpec {
    /// From the detector itself.
    Detector,
    /// From a model of 68 points on a grey 64×64 cut.
    Points68 {
        /// Its model.
        file: ModelFile,
    },
}

/// How the embedder wants its faces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbedderSpec {
    /// Its model: input `[n, 3, 112, 112]`.
    pub file: ModelFile,
    /// Numbers of an embedding.
    pub dim: usize,
    /// Subtracted from each channel value, which is 0 to 255.
    pub mean: f32,
    /// Divides what is left.
    pub scale: f32,
    /// Order of the channels.
    pub colour: ColourOrder,
    /// Faces and mirror images that one run may take; 1 where the model's batch is fixed.
    pub max_rows: usize,
    /// Embed the mirror image too, and average: about one percent fewer errors for twice the work.
    pub flip: bool,
    /// What it does on a GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuSpec>,
}

/// How the embedder runs on a GPU. On the processor nothing of it counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GpuSpec {
    /// CUDA records a run of each size once and plays it back: for models whose many small steps cost more to start than to run.
    pub cuda_graph: bool,
    /// Convolutions with the channels innermost, as tensor cores take them; CUDA converts around each otherwise.
    pub nhwc: bool,
    /// Half precision. TensorRT converts the pack's model itself; CUDA needs one that was converted, which is `file`.
    pub fp16: bool,
    /// The model in half precision, with inputs and outputs in half or in single. It is part of the fingerprint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<ModelFile>,
    /// Images in a run, which is filled up to one of these sizes; without any, 1, 4, 16, 32 and 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<usize>,
}

impl GpuSpec {
    fn validate(&self) -> Result<(), String> {
        if self.file.is_some() && !self.fp16 {
            return Err("file is the model in half precision: set fp16 = true too".to_owned());
        }
        match self.buckets.iter().find(|size| !(1..=1024).contains(*size)) {
            Some(size) => Err(format!("buckets: {size} is outside 1 to 1024")),
            // Each is tried before the first face.
            None if self.buckets.len() > 16 => Err("buckets: more than 16 sizes".to_owned()),
            None => Ok(()),
        }
    }
}

impl EmbedderSpec {
    /// Faces that one run takes: with mirror averaging, each takes two rows.
    pub fn faces_per_run(&self) -> usize {
        if self.flip { (self.max_rows / 2).max(1) } else { self.max_rows.max(1) }
    }

    /// The model for this hardware.
    pub fn file_on(&self, provider: Provider) -> &ModelFile {
        let half = self.gpu.as_ref().and_then(|gpu| gpu.file.as_ref());
        half.filter(|_| provider.is_gpu()).unwrap_or(&self.file)
    }
}

/// Order of the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColourOrder {
    /// Red first.
    Rgb,
    /// Blue first.
    Bgr,
}

impl PackManifest {
    /// Reads and checks a manifest; the message says what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let manifest: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// The manifest as `pack.toml` holds it.
    pub fn to_toml(&self) -> Result<String, String> {
        toml::to_string_pretty(self).map_err(|e| e.to_string())
    }

    /// The `model` of records: [`PackManifest::pack_fingerprint`], and behind a plus the head's where there is one. Embeddings
    /// with the same fingerprint are comparable.
    pub fn fingerprint(&self) -> String {
        let pack = self.pack_fingerprint();
        self.head.as_ref().map(|head| model::projected(&pack, &head.fingerprint)).unwrap_or(pack)
    }

    /// Numbers of an embedding as it is compared and kept: the head's, where there is one.
    pub fn dim(&self) -> usize {
        self.head.as_ref().map_or(self.embedder.dim, |head| head.output)
    }

    /// The pack with a head behind its embedder. What the pack says of similarities and published accuracies is not the head's.
    ///
    /// # Errors
    /// A head of embeddings of another width.
    pub fn with_head(self, head: HeadSpec) -> Result<Self, String> {
        if head.input != self.embedder.dim {
            let (takes, makes) = (head.input, self.embedder.dim);
            return Err(format!("it takes embeddings of {takes} numbers, and the pack {} makes {makes}", self.name));
        }
        Ok(Self { head: Some(head), calibration: None, published: Vec::new(), ..self })
    }

    /// `name@version:hash`, the `model` of records without a head: the hash covers every file and how the embedder's input is
    /// made. A calibration changes no embedding and is not covered.
    pub fn pack_fingerprint(&self) -> String {
        let mut hasher = Sha256::new();
        for file in self.files() {
            hasher.update(file.sha256.to_ascii_lowercase());
        }
        let spec = &self.embedder;
        hasher.update(format!("{} {} {:?} {}", spec.mean, spec.scale, spec.colour, spec.flip));
        let short: String = hex(&hasher.finalize()).chars().take(8).collect();
        format!("{}@{}:{short}", self.name, self.version)
    }

    /// The models that the pack needs.
    pub fn files(&self) -> impl Iterator<Item = &ModelFile> {
        let landmarks = match &self.landmarks {
            LandmarkSpec::Detector => None,
            LandmarkSpec::Points68 { file } => Some(file),
        };
        let half = self.embedder.gpu.as_ref().and_then(|gpu| gpu.file.as_ref());
        [Some(&self.detector.file), landmarks, Some(&self.embedder.file), half].into_iter().flatten()
    }

    /// The same, to fill in checksums.
    pub fn files_mut(&mut self) -> impl Iterator<Item = &mut ModelFile> {
        let landmarks = match &mut self.landmarks {
            LandmarkSpec::Detector => None,
            LandmarkSpec::Points68 { file } => Some(file),
        };
        let half = self.embedder.gpu.as_mut().and_then(|gpu| gpu.file.as_mut());
        [Some(&mut self.detector.file), landmarks, Some(&mut self.embedder.file), half].into_iter().flatten()
    }

    fn validate(&self) -> Result<(), String> {
        let bare = |name: &str| {
            !name.is_empty()
                && !name.starts_with('.')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if self.name.is_empty() || !self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
            return Err(format!("name: {:?} may hold only letters, digits, _ and -", self.name));
        }
        if let Some(file) = self.files().find(|f| !bare(&f.name)) {
            return Err(format!("file: {:?} must be a bare file name beside pack.toml", file.name));
        }
        self.detector.validate()?;
        self.score.as_ref().map_or(Ok(()), ScoreModel::validate).map_err(|message| format!("score.{message}"))?;
        if let Some(wrong) = self.published.iter().find(|published| !(0.0..=1.0).contains(&published.accuracy)) {
            return Err(format!("published: the accuracy {} of {} is outside 0 to 1", wrong.accuracy, wrong.set));
        }
        if self.detector.kind == DetectorKind::FacepluginRfb && self.landmarks == LandmarkSpec::Detector {
            return Err("landmarks: the faceplugin_rfb detector finds none, a model of its own is needed".to_owned());
        }
        if !(1..=4096).contains(&self.embedder.dim) || !(1..=1024).contains(&self.embedder.max_rows) {
            return Err("embedder: dim must be 1 to 4096 and max_rows 1 to 1024".to_owned());
        }
        if !self.embedder.scale.is_normal() || !self.embedder.mean.is_finite() {
            return Err("embedder: scale must not be 0, mean and scale must be numbers".to_owned());
        }
        let gpu = self.embedder.gpu.as_ref().map_or(Ok(()), GpuSpec::validate);
        gpu.map_err(|message| format!("embedder.gpu: {message}"))?;
        self.calibration
            .as_ref()
            .map_or(Ok(()), Calibration::validate)
            .map_err(|message| format!("calibration.{message}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(from: &str, to: &str) -> Result<PackManifest, String> {
        let text = include_str!("packs/default.toml");
        assert!(text.contains(from), "{from}");
        PackManifest::parse(&text.replace(from, to))
    }

    #[test]
    fn a_manifest_survives_its_own_text() {
        let manifest = PackManifest::parse(include_str!("packs/antelopev2.toml")).unwrap();
        assert_eq!(PackManifest::parse(&manifest.to_toml().unwrap()).unwrap(), manifest);
        assert_eq!(manifest.files().count(), 2);
        let default = PackManifest::parse(include_str!("packs/default.toml")).unwrap();
        let again = PackManifest::parse(&default.to_toml().unwrap()).unwrap();
        assert_eq!((again.files().count(), &again), (3, &default));
        assert!(default.calibration.is_some() && manifest.calibration.is_none());
        let bare = PackManifest { calibration: None, ..default.clone() };
        assert_eq!(bare.fingerprint(), default.fingerprint(), "a calibration makes no other embeddings");
    }

    #[test]
    fn what_a_pack_wants_of_a_gpu_is_read_and_its_file_is_one_of_the_packs() {
        let file = format!("file = {{ name = \"half.onnx\", sha256 = \"{}\" }}", "0".repeat(64));
        let gpu = format!(
            "flip = true\n\n[embedder.gpu]\nfp16 = true\nnhwc = true\ncuda_graph = true\nbuckets = [2, 8]\n{file}\n"
        );
        let manifest = changed("flip = true", &gpu).unwrap();
        assert_eq!(PackManifest::parse(&manifest.to_toml().unwrap()).unwrap(), manifest);
        let names: Vec<&str> = manifest.files().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["fr_detect.onnx", "fr_landmark.onnx", "fr_feature.onnx", "half.onnx"]);
        let on = |provider| manifest.embedder.file_on(provider).name.as_str();
        assert_eq!((on(Provider::Cpu), on(Provider::Cuda { device: 1 })), ("fr_feature.onnx", "half.onnx"));
        let plain = PackManifest::parse(include_str!("packs/default.toml")).unwrap();
        assert_ne!(manifest.fingerprint(), plain.fingerprint(), "another file makes another embedding");
        assert_eq!(plain.embedder.file_on(Provider::Cuda { device: 0 }), &plain.embedder.file);
        let wrong = |gpu: &str| changed("flip = true", &format!("flip = true\n\n[embedder.gpu]\n{gpu}\n")).unwrap_err();
        assert!(wrong(&file).contains("fp16"));
        assert!(wrong("buckets = [0]").contains("embedder.gpu: buckets"));
        assert!(wrong("fp8 = true").contains("fp8"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (from, to, said) in [
            ("flip = true", "flop = true", "flop"),
            ("name = \"fr_feature.onnx\"", "name = \"../fr_feature.onnx\"", "bare file name"),
            ("name = \"default\"", "name = \"a/b\"", "only letters"),
            ("scale = 128.0", "scale = 0.0", "scale must not be 0"),
            ("max_rows = 1", "max_rows = 0", "max_rows"),
            ("nms_iou = 0.4", "nms_iou = 4.0", "nms_iou"),
            ("input = [320, 240]", "input = [320, 9]", "320x9"),
            ("faceplugin_rfb", "scrfd", "multiples of 32"),
            ("faceplugin_rfb", "yolo", "yolo"),
            ("margin = 0.05", "margin = 5.0", "calibration.margin"),
            ("threshold = 0.4184", "threshold = 0.3", "calibration.table"),
            ("impostor =", "imposter =", "imposter"),
        ] {
            let message = changed(from, to).unwrap_err();
            assert!(message.contains(said), "{from} -> {to}: {message}");
        }
    }
}
