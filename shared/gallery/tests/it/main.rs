//! The gallery over a real Postgres, vector engine and directory of images.

#[cfg(test)]
mod clusters;
#[cfg(test)]
mod erasing;
#[cfg(test)]
mod erasing_images;
#[cfg(test)]
mod exports;
#[cfg(test)]
mod people;
#[cfg(test)]
mod removing;
#[cfg(test)]
mod support;
