//! Sessions dealt over the devices of a stage: each new one goes to the device with the fewest. A session that is opened
//! anew after a fault takes the place that the broken one left, so a device that fails is never avoided in silence.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use facewire_vision::{AlignedFace, RgbImage};

use crate::embedder::{Embedded, FaceEmbedder};
use crate::error::InferenceError;
use crate::finder::{FaceFind, FoundFace};
use crate::provider::{Provider, Providers};

/// The devices of a stage and how many sessions each has. Clones count together.
#[derive(Debug, Clone)]
pub struct Devices(Arc<Mutex<Vec<Device>>>);

#[derive(Debug)]
struct Device {
    provider: Provider,
    sessions: usize,
}

impl Devices {
    /// Devices without a session.
    pub fn new(providers: &Providers) -> Self {
        Self(Arc::new(Mutex::new(providers.all().map(|provider| Device { provider, sessions: 0 }).collect())))
    }

    /// A place on the device with the fewest sessions, the first of these.
    pub fn take(&self) -> Place {
        let mut devices = self.devices();
        let fewest = devices.iter_mut().enumerate().min_by_key(|(_, device)| device.sessions);
        let (index, provider) = fewest.map_or_else(Default::default, |(index, device)| {
            device.sessions += 1;
            (index, device.provider)
        });
        Place { devices: self.clone(), index, provider }
    }

    fn devices(&self) -> MutexGuard<'_, Vec<Device>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session's place on a device, until it is dropped.
#[derive(Debug)]
pub struct Place {
    devices: Devices,
    index: usize,
    provider: Provider,
}

impl Place {
    /// The device.
    pub fn provider(&self) -> Provider {
        self.provider
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(device) = self.devices.devices().get_mut(self.index) {
            device.sessions = device.sessions.saturating_sub(1);
        }
    }
}

/// Models that hold their place while they live.
pub struct Placed<T: ?Sized> {
    // Dropped first: the place is free when its sessions are gone.
    inner: Box<T>,
    _place: Place,
}

impl<T: ?Sized> Placed<T> {
    /// Models that were opened on the place's device.
    pub fn new(inner: Box<T>, place: Place) -> Self {
        Self { inner, _place: place }
    }
}

impl FaceEmbedder for Placed<dyn FaceEmbedder> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn dim(&self) -> usize {
        self.inner.dim()
    }

    fn max_batch(&self) -> Option<usize> {
        self.inner.max_batch()
    }

    fn warm_up(&self) -> Vec<usize> {
        self.inner.warm_up()
    }

    fn embed_measured(&mut self, faces: &[AlignedFace]) -> Result<Vec<Embedded>, InferenceError> {
        self.inner.embed_measured(faces)
    }
}

impl FaceFind for Placed<dyn FaceFind> {
    fn find(&mut self, image: &RgbImage) -> Result<Vec<FoundFace>, InferenceError> {
        self.inner.find(image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(places: &[Place]) -> Vec<String> {
        places.iter().map(|place| place.provider().to_string()).collect()
    }

    #[test]
    fn threads_are_dealt_over_the_devices_in_turn() {
        let devices = Devices::new(&"cuda:0,cuda:1,cuda:3".parse().unwrap());
        let places: Vec<Place> = (0..5).map(|_| devices.take()).collect();
        assert_eq!(names(&places), ["cuda:0", "cuda:1", "cuda:3", "cuda:0", "cuda:1"]);
        let one = Devices::new(&Providers::default());
        assert_eq!(names(&[one.take(), one.take()]), ["cpu", "cpu"]);
    }

    #[test]
    fn a_session_that_is_opened_anew_takes_the_place_of_the_broken_one() {
        let devices = Devices::new(&"cuda:0,cuda:1".parse().unwrap());
        let mut places: Vec<Place> = (0..4).map(|_| devices.take()).collect();
        for broken in [3, 1, 1] {
            let provider = places.remove(broken).provider();
            places.insert(broken, devices.clone().take());
            assert_eq!(places[broken].provider(), provider);
        }
        assert_eq!(names(&places), ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]);
    }
}
