//! The limit of two benches: decode, find, align, judge and embed on every core; no queue, no store, no statistics.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use bytes::Bytes;
use facewire_assess::{Request, Rules, Unjudged, judge};
use facewire_composition::models::Loaded;
use facewire_inference::{FaceEmbedder, FaceFinder};

use super::cores;

/// The models of one thread.
type Session = (FaceFinder, Box<dyn FaceEmbedder>);

/// One session a core.
pub(super) fn sessions(models: &Loaded) -> anyhow::Result<Vec<Session>> {
    let open = |_| {
        let finder = models.pack.finder(&models.runtime, &models.session)?;
        Ok((finder, models.pack.embedder(&models.runtime, &models.session)?))
    };
    (0..cores()).map(open).collect()
}

/// How long so many crops take, of pictures that come round again. Faces that the rules refuse are not embedded.
pub(super) fn bare_loop(
    sessions: &mut [Session],
    rules: &Rules,
    pictures: &[Bytes],
    crops: usize,
) -> anyhow::Result<Duration> {
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let one = |(finder, embedder): &mut Session| {
            while let Some(index) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|index| *index < crops) {
                let Some(picture) = pictures.get(index % pictures.len()) else { continue };
                match judge(finder, rules, Request::crop("bench"), picture) {
                    Ok(faces) => {
                        let passed = faces.into_iter().filter(|face| face.refusal.is_none());
                        let faces: Vec<_> = passed.map(|face| face.aligned).collect();
                        embedder.embed(&faces)?;
                    }
                    Err(Unjudged::Rejected(_)) => {}
                    Err(Unjudged::Inference(error)) => return Err(anyhow::Error::from(error)),
                }
            }
            Ok(())
        };
        let threads: Vec<_> = sessions.iter_mut().map(|session| scope.spawn(move || one(session))).collect();
        threads.into_iter().try_for_each(|t| t.join().map_err(|_| anyhow!("the bare loop panicked"))?)
    })?;
    Ok(started.elapsed())
}
