//! What the throwaway servers of a run are started from: an image that is on the engine, and what they may take.

use super::Context;
use super::throwaway::limits;
use crate::docker::local_image::LocalImage;
use crate::docker::throwaway::Limits;
use crate::error::{Error, Result, nearest};
use crate::manifest::Artifact;
use serde_json::Value;
use std::collections::BTreeMap;

/// What a server is started from.
#[derive(Debug, Clone)]
pub(super) struct Basis {
    pub image: LocalImage,
    /// Whether it is the very image that the backup was made from.
    pub exact: bool,
    pub limits: Limits,
}

/// Bases by service.
pub(super) type Bases = BTreeMap<String, Basis>;

/// An image that the engine does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    pub service: String,
    /// Its name.
    pub image: String,
    /// The digest in a registry, where the backup knows it: `postgres@sha256:…`.
    pub digest: Option<String>,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub bases: Bases,
    pub missing: Vec<Missing>,
}

/// Whose images are looked for, and where.
pub(super) struct Images<'a> {
    pub context: &'a Context,
    pub artifacts: &'a [Artifact],
    /// What the engine said of the stack when the backup was made.
    pub described: &'a Value,
    /// Other images than the backup's, by service.
    pub given: &'a BTreeMap<String, String>,
}

impl Images<'_> {
    /// Looks for the image of each service.
    ///
    /// # Errors
    /// Usage where an image was given for a service that there is not.
    pub(super) async fn find(&self) -> Result<Found> {
        let (whole, known) = limits(self.context, self.described).await?;
        let (mut bases, mut missing) = (Bases::new(), Vec::<Missing>::new());
        for artifact in self.artifacts {
            let Some(service) = artifact.name.service() else {
                continue;
            };
            let is_known = missing.iter().any(|one| one.service == service);
            if is_known || bases.contains_key(service) {
                continue;
            }
            match self.image(service, artifact).await? {
                Some((image, exact)) => {
                    let limits = known.get(service).copied().unwrap_or(whole);
                    let made = Basis {
                        image,
                        exact,
                        limits,
                    };
                    bases.insert(service.to_owned(), made);
                }
                None => missing.push(self.wanted(service, artifact)),
            }
        }
        let found = Found { bases, missing };
        self.refuse_unknown_services(&found)?;
        Ok(found)
    }

    /// The image for a service, and whether it is the backup's own; `None` where the engine has none.
    async fn image(
        &self,
        service: &str,
        artifact: &Artifact,
    ) -> Result<Option<(LocalImage, bool)>> {
        let engine = self.context.engine()?;
        if let Some(given) = self.given.get(service) {
            let exact = |image: &LocalImage| image.id == artifact.image_digest;
            let image = engine.local_image(given).await?;
            return Ok(image.map(|image| {
                let exact = exact(&image);
                (image, exact)
            }));
        }
        if let Some(image) = engine.local_image(&artifact.image_digest).await? {
            // By its own name it can be recognised; what was found is what counts.
            let name = artifact.image.clone();
            return Ok(Some((LocalImage { name, ..image }, true)));
        }
        let image = engine.local_image(&artifact.image).await?;
        Ok(image.map(|image| (image, false)))
    }

    fn wanted(&self, service: &str, artifact: &Artifact) -> Missing {
        let given = self.given.get(service);
        let digest = Some(&artifact.image_digest).filter(|digest| digest.contains('@'));
        Missing {
            service: service.to_owned(),
            image: given.unwrap_or(&artifact.image).clone(),
            digest: digest.filter(|_| given.is_none()).cloned(),
        }
    }

    fn refuse_unknown_services(&self, found: &Found) -> Result<()> {
        let known = || {
            let missing = found.missing.iter().map(|one| one.service.as_str());
            found.bases.keys().map(String::as_str).chain(missing)
        };
        for service in self.given.keys() {
            if known().all(|name| name != service) {
                let near = nearest(service, known()).join(" or ");
                return Err(Error::usage(format!(
                    "the backup has no service {service:?} to give an image to"
                ))
                .hint(match near.is_empty() {
                    true => format!("it has {}", known().collect::<Vec<_>>().join(", ")),
                    false => format!("did you mean {near}?"),
                }));
            }
        }
        Ok(())
    }
}

impl Found {
    /// The bases, where none is missing. All that are missing are said at once.
    pub(super) fn whole(self) -> Result<Bases> {
        let Some(Missing { service, image, .. }) = self.missing.first() else {
            return Ok(self.bases);
        };
        let all: Vec<String> = self
            .missing
            .iter()
            .map(|one| format!("{} of service {}", one.image, one.service))
            .collect();
        Err(Error::failed(format!(
            "the engine does not have the image {}",
            all.join(", nor ")
        ))
        .hint(format!(
            "docker pull {image}; or give another one: --image {service}=IMAGE"
        )))
    }
}
