//! What Facewire is deployed with, checked without a cluster: the Helm chart (`chart`), the images and the compose file
//! (`images`), by tools that are fetched and pinned (`tools`).

#[path = "../../bin/bounds.rs"]
mod bounds;
mod chart;
mod facts;
mod images;
mod tools;
