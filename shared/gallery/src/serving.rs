//! Which model the gallery is of: it stands in Postgres, so that a service with another pack in its configuration cannot take
//! every face for one that has to go.

use crate::{Gallery, GalleryError};

/// Faces that are counted of each model, at most.
const ENOUGH: u32 = 100_000;

impl Gallery {
    /// Whether the gallery is of the configured model. The first to ask of an empty gallery decides.
    ///
    /// # Errors
    /// [`GalleryError::OtherModel`]; of Postgres.
    pub async fn check_serving(&self) -> Result<(), GalleryError> {
        let serving = match self.store.serving_model().await? {
            Some(serving) => serving.model,
            None => {
                // A gallery of an earlier release says nothing: it is of the model that most of its faces are of.
                let models = self.store.models_of_faces(ENOUGH).await?;
                match models.into_iter().next() {
                    Some(commonest) if commonest.model != self.model => commonest.model,
                    _ => self.store.claim_serving(&self.model, self.dim).await?.model,
                }
            }
        };
        if serving == self.model {
            return Ok(());
        }
        Err(GalleryError::OtherModel { serving, configured: self.model.clone() })
    }
}
