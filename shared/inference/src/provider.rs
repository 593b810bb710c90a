//! Execution providers, by the names that the configuration has for them. What ONNX Runtime is told of one is `runtime`'s.

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Provider {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU.
    Cuda {
        /// Its number, from 0.
        device: u32,
    },
    /// An NVIDIA GPU through TensorRT. What TensorRT does not take of a model runs on the same GPU through CUDA.
    TensorRt {
        /// Its number, from 0.
        device: u32,
    },
}

impl Provider {
    /// Whether it is a GPU: a device that plans a model anew for each size of a batch.
    pub fn is_gpu(self) -> bool {
        self != Self::Cpu
    }

    /// The GPU's number, as ONNX Runtime wants it.
    pub(crate) fn device(self) -> i32 {
        match self {
            Self::Cpu => 0,
            Self::Cuda { device } | Self::TensorRt { device } => i32::try_from(device).unwrap_or(i32::MAX),
        }
    }
}

impl std::fmt::Display for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda { device } => write!(f, "cuda:{device}"),
            Self::TensorRt { device } => write!(f, "tensorrt:{device}"),
        }
    }
}

impl std::str::FromStr for Provider {
    type Err = String;
    /// `cpu`, or `cuda` or `tensorrt`, with `:<device>` where it is not the first.
    fn from_str(s: &str) -> Result<Self, String> {
        let (name, device) = s.split_once(':').unwrap_or((s, "0"));
        match (name, device.parse()) {
            ("cpu", _) if s == name => Ok(Self::Cpu),
            ("cuda", Ok(device)) => Ok(Self::Cuda { device }),
            ("tensorrt", Ok(device)) => Ok(Self::TensorRt { device }),
            _ => Err(format!(
                "{s:?} is no execution provider; use cpu, cuda, tensorrt, cuda:<device number> or the like"
            )),
        }
    }
}

/// The devices of one stage, one at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Providers(Vec<Provider>);

impl Providers {
    /// The first.
    pub fn first(&self) -> Provider {
        self.0.first().copied().unwrap_or_default()
    }

    /// The device of a stage's thread, by the thread's number from 0: threads are dealt over the devices in turn. A session that is
    /// opened anew after a fault goes to the same device, so that one that fails is never avoided in silence.
    pub fn of_thread(&self, thread: usize) -> Provider {
        self.0.get(thread % self.0.len().max(1)).copied().unwrap_or_default()
    }

    /// All, as they were named.
    pub fn all(&self) -> impl Iterator<Item = Provider> {
        self.0.iter().copied()
    }
}

impl Default for Providers {
    fn default() -> Self {
        Self(vec![Provider::default()])
    }
}

impl std::fmt::Display for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<String> = self.all().map(|provider| provider.to_string()).collect();
        f.write_str(&names.join(","))
    }
}

impl std::str::FromStr for Providers {
    type Err = String;
    /// One provider, or several with commas between them.
    fn from_str(s: &str) -> Result<Self, String> {
        s.split(',').map(|name| name.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_what_its_name_says() {
        for (name, provider) in [
            ("cpu", Provider::Cpu),
            ("cuda:0", Provider::Cuda { device: 0 }),
            ("cuda:3", Provider::Cuda { device: 3 }),
            ("tensorrt:1", Provider::TensorRt { device: 1 }),
        ] {
            assert_eq!((name.parse::<Provider>(), provider.to_string().as_str()), (Ok(provider), name));
            assert_eq!(provider.is_gpu(), name != "cpu");
        }
        assert_eq!("cuda".parse::<Provider>(), Ok(Provider::Cuda { device: 0 }));
        assert_eq!("tensorrt".parse::<Provider>(), Ok(Provider::TensorRt { device: 0 }));
        assert_eq!(Provider::TensorRt { device: 7 }.device(), 7);
        for wrong in ["", "gpu", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "CUDA", "tensorrt:0:1"] {
            let error = wrong.parse::<Provider>().unwrap_err();
            assert!(error.contains(&format!("{wrong:?}")) && error.contains("tensorrt"), "{error}");
        }
    }

    #[test]
    fn threads_are_dealt_over_the_devices_in_turn() {
        let devices: Providers = "cuda:0,cuda:1,cuda:3".parse().unwrap();
        let names: Vec<String> = (0..5).map(|thread| devices.of_thread(thread).to_string()).collect();
        assert_eq!(names, ["cuda:0", "cuda:1", "cuda:3", "cuda:0", "cuda:1"]);
        assert_eq!(Providers::default().of_thread(7), Provider::Cpu);
    }

    #[test]
    fn a_list_has_commas_and_nothing_wrong_in_it() {
        let two: Providers = "cuda:0, cuda:1".parse().unwrap();
        let both: Vec<Provider> = two.all().collect();
        assert_eq!(both, [Provider::Cuda { device: 0 }, Provider::Cuda { device: 1 }]);
        assert_eq!((two.first(), two.to_string().as_str()), (Provider::Cuda { device: 0 }, "cuda:0,cuda:1"));
        assert_eq!("cpu".parse::<Providers>(), Ok(Providers::default()));
        for wrong in ["", "cuda:0,", "cuda:0,gpu", "cuda:0;cuda:1"] {
            assert!(wrong.parse::<Providers>().is_err(), "{wrong}");
        }
    }
}
