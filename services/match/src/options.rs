//! What an operator may set of the stage: what a match needs, said by error rate or as a fixed similarity.

use std::collections::HashMap;
use std::time::Duration;

use facewire_bus::StageOptions;
use facewire_domain::{Against, CollectionId};
use facewire_gallery::{CollectionRule, RuleOptions};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// What an operator may set of the stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// How it takes work.
    pub stage: StageOptions,
    /// Probes that are searched in one call.
    pub batch: usize,
    /// Least time between two batches: a face that comes alone is searched at once, under load a call serves many.
    #[serde(with = "facewire_config::duration")]
    pub batch_interval: Duration,
    /// Open-set false positive identification rate, above 0 and below 1: the share of strangers that may be taken for
    /// somebody. The threshold follows from it by the calibration and the number of faces that are compared.
    #[serde(deserialize_with = "rate")]
    pub fpir: f64,
    /// Cosine similarity that a match needs, 0 to 1, in place of `fpir`.
    #[serde(deserialize_with = "similarity", skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
    /// How far the best person must be before the second, in similarity, 0 to 1; in place of the calibration's.
    #[serde(deserialize_with = "similarity", skip_serializing_if = "Option::is_none")]
    pub margin: Option<f32>,
    /// As `fpir`, for enrolment: a face that is similar enough to another person's is not enrolled, `identity_conflict`.
    #[serde(deserialize_with = "rate")]
    pub conflict_fpir: f64,
    /// Cosine similarity of such a conflict, 0 and up, in place of `conflict_fpir`. 1 or more turns the check off.
    #[serde(deserialize_with = "positive", skip_serializing_if = "Option::is_none")]
    pub conflict_similarity: Option<f32>,
    /// Which faces of people probes are compared with: all of them (`faces`), or only those that stand for their person
    /// (`prototypes`), as the service `jobs` keeps them up to date. Faces to be enrolled are compared with all.
    pub against: Against,
    /// What single collections have instead.
    pub collections: HashMap<CollectionId, CollectionOptions>,
}

/// What a collection may set for itself.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectionOptions {
    /// See [`Options::threshold`].
    #[serde(deserialize_with = "similarity", skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
    /// See [`Options::fpir`]; the collection's own `threshold` stands above it.
    #[serde(deserialize_with = "own_rate", skip_serializing_if = "Option::is_none")]
    pub fpir: Option<f64>,
    /// See [`Options::against`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<Against>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            stage: StageOptions::default(),
            batch: 64,
            batch_interval: Duration::from_millis(50),
            fpir: 0.01,
            threshold: None,
            margin: None,
            conflict_fpir: 0.001,
            conflict_similarity: None,
            against: Against::default(),
            collections: HashMap::new(),
        }
    }
}

impl Options {
    /// What they say of matches, for everybody who has to decide as this stage does.
    pub fn rules(&self) -> RuleOptions {
        let rule =
            |own: &CollectionOptions| CollectionRule { threshold: own.threshold, fpir: own.fpir, against: own.against };
        RuleOptions {
            fpir: self.fpir,
            threshold: self.threshold,
            margin: self.margin,
            conflict_fpir: self.conflict_fpir,
            conflict_similarity: self.conflict_similarity,
            against: self.against,
            collections: self.collections.iter().map(|(id, own)| (id.clone(), rule(own))).collect(),
        }
    }
}

fn rate<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let value = f64::deserialize(from)?;
    if value > 0.0 && value < 1.0 { Ok(value) } else { Err(outside(value, "a rate above 0 and below 1")) }
}

fn own_rate<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    rate(from).map(Some)
}

fn similarity<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f32>, D::Error> {
    let value = f32::deserialize(from)?;
    if (0.0..=1.0).contains(&value) { Ok(Some(value)) } else { Err(outside(value, "a similarity from 0 to 1")) }
}

fn positive<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f32>, D::Error> {
    let value = f32::deserialize(from)?;
    if value >= 0.0 { Ok(Some(value)) } else { Err(outside(value, "a similarity of 0 or more")) }
}

fn outside<E: Error>(value: impl std::fmt::Display, wanted: &str) -> E {
    E::custom(format_args!("{value} is not {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Options, String> {
        let pairs = [("FACEWIRE__MATCH__FPIR".to_owned(), "0.02".to_owned())];
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct File {
            r#match: Options,
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("facewire.toml");
        std::fs::write(&path, text).unwrap();
        facewire_config::load(Some(&path), pairs).map(|file: File| file.r#match).map_err(|error| error.to_string())
    }

    #[test]
    fn a_rate_or_a_similarity_out_of_range_is_refused() {
        let text =
            "[match]\nmargin = 0\nconflict_similarity = 1.5\n[match.collections.vault]\nfpir = 0.001\nthreshold = 0.5";
        let options = read(text).unwrap();
        assert_eq!((options.fpir, options.margin, options.conflict_similarity), (0.02, Some(0.0), Some(1.5)));
        let vault = options.collections[&"vault".parse().unwrap()];
        assert_eq!((vault.fpir, vault.threshold, options.threshold), (Some(0.001), Some(0.5), None));
        let rules = options.rules();
        assert_eq!((rules.fpir, rules.margin, rules.conflict_similarity), (0.02, Some(0.0), Some(1.5)));
        let vault = rules.collections[&"vault".parse().unwrap()];
        assert_eq!((vault.fpir, vault.threshold), (Some(0.001), Some(0.5)));
        for (wrong, said) in [
            ("[match]\nconflict_fpir = 0.0", "0 is not a rate above 0"),
            ("[match]\nconflict_fpir = 1", "1 is not a rate above 0"),
            ("[match]\nthreshold = 1.5", "1.5 is not a similarity"),
            ("[match]\nmargin = -0.1", "-0.1 is not a similarity"),
            ("[match]\nconflict_similarity = nan", "NaN is not a similarity"),
            ("[match.collections.vault]\nfpir = -1.0", "-1 is not a rate"),
            ("[match]\nagainst = \"centroids\"", "enum Against does not have such a variant for key `match.against`"),
            ("[match.collections.vault]\nagainst = \"Faces\"", "`match.collections.vault.against`"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(said), "{wrong}: {error}");
        }
    }

    #[test]
    fn which_faces_count_is_said_for_all_and_for_a_collection() {
        let (vault, hall): (CollectionId, CollectionId) = ("vault".parse().unwrap(), "hall".parse().unwrap());
        assert_eq!(Options::default().rules().against(&vault), Against::Faces);
        let rules = read("[match.collections.vault]\nagainst = \"prototypes\"").unwrap().rules();
        assert_eq!((rules.against(&vault), rules.against(&hall)), (Against::Prototypes, Against::Faces));
        let text = "[match]\nagainst = \"prototypes\"\n[match.collections.vault]\nagainst = \"faces\"";
        let rules = read(text).unwrap().rules();
        assert_eq!((rules.against(&vault), rules.against(&hall)), (Against::Faces, Against::Prototypes));
    }
}
