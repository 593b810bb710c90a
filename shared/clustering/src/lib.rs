//! Embeddings → clusters: pure, no I/O. REFERENCE "Clustering" has the facts.
//!
//! Exact HDBSCAN with bounded memory ([`hdbscan`], or [`Hierarchy`] for more than one cut of one tree), approximate HDBSCAN of
//! a graph of neighbours ([`Hierarchy::of_graph`]), [`dbscan`] and [`agglomerative`]. Rows are L2-normalised and distances
//! Euclidean, √(2 − 2cos). Every result is the same for any number of threads; each algorithm says what memory it needs before
//! it starts, reports its progress and can be cancelled ([`Run`]).
//!
//! Around them: which clusters of a run are still those of an earlier one ([`stable`]), their means ([`Sums`]), which faces stand
//! for a person ([`exemplars`]), whose prototype is nearest to a face ([`Nearest`]), and what other pure crates share: the
//! matrix product that all of it rests on ([`products()`]), and the generator of what is drawn ([`SplitMix64`]).

mod agglomerative;
mod cohesion;
mod condensed;
mod dbscan;
mod error;
pub mod exemplars;
mod graph;
mod hdbscan;
mod kruskal;
mod lists;
mod matrix;
mod near;
mod nearest;
mod products;
mod random;
mod result;
mod run;
mod select;
mod sieve;
mod slots;
mod spanning;
pub mod stable;
mod sums;
#[cfg(test)]
mod testing;
mod tiles;

pub use agglomerative::{Agglomerative, Linkage, agglomerative};
pub use dbscan::{Dbscan, dbscan};
pub use error::ClusterError;
pub use graph::{NO_NEIGHBOUR, NeighbourGraph};
pub use hdbscan::{Hdbscan, Hierarchy, MAX_MIN_SAMPLES, Method, Selection, hdbscan};
pub use kruskal::Edge;
pub use matrix::{MAX_ROWS, Matrix, NORM_TOLERANCE};
pub use nearest::{Nearest, NearestOwner};
pub use products::products;
pub use random::SplitMix64;
pub use result::{Cluster, Clustering};
pub use run::{Phase, Progress, Run};
pub use spanning::Work;
pub use sums::Sums;
