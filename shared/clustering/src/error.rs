//! Why a clustering was not made.

use thiserror::Error;

/// An input that is refused, a limit that is passed, or a caller's wish to stop. Nothing is kept in any of these cases.
#[derive(Debug, Error, Clone, PartialEq)]
pub enum ClusterError {
    /// The numbers are no matrix.
    #[error("{len} numbers are no whole rows of {dim}: give n × d numbers with d above 0")]
    Shape {
        /// Numbers given.
        len: usize,
        /// Numbers in a row.
        dim: usize,
    },
    /// A NaN or an infinity.
    #[error("row {row} has a value that is not finite")]
    NotFinite {
        /// Which row.
        row: usize,
    },
    /// A row's norm is not 1.
    #[error("row {row} has the norm {norm}, not 1: normalise it first")]
    Norm {
        /// Which row.
        row: usize,
        /// Its L2 norm.
        norm: f64,
    },
    /// More rows than an algorithm takes.
    #[error("{rows} rows, more than {limit}: cluster a sample, or a graph of nearest neighbours (approximate)")]
    TooManyRows {
        /// Rows given.
        rows: usize,
        /// Rows at most.
        limit: usize,
    },
    /// A parameter out of its range.
    #[error("{name} is {value}, which must be {range}")]
    Parameter {
        /// Which.
        name: &'static str,
        /// What was given.
        value: f64,
        /// What is taken.
        range: &'static str,
    },
    /// More memory than the caller allows; known before anything starts.
    #[error(
        "{rows} rows need {needed} bytes, more than the limit of {limit}: raise the limit, take at most {fitting} rows, or \
         cluster a graph of nearest neighbours (approximate)"
    )]
    Memory {
        /// Rows given.
        rows: usize,
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
        /// Rows of this dimension that fit.
        fitting: usize,
    },
    /// Things that belong together and do not fit.
    #[error("{given} {what}, not {wanted}")]
    Mismatch {
        /// Of what.
        what: &'static str,
        /// So many were given.
        given: usize,
        /// So many there must be.
        wanted: usize,
    },
    /// A graph of neighbours that is none.
    #[error("neighbour list {row}: {reason}")]
    Graph {
        /// Whose list.
        row: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The caller's watch said stop.
    #[error("the clustering was cancelled")]
    Cancelled,
    /// A pass over all pairs proved no further edge, which rounding within its bound cannot cause.
    #[error("the spanning tree cannot be proven: products of this machine are less exact than their bound")]
    Unproven,
}

/// Refuses a parameter that is not `right`.
pub(crate) fn demand(right: bool, name: &'static str, value: f64, range: &'static str) -> Result<(), ClusterError> {
    if right { Ok(()) } else { Err(ClusterError::Parameter { name, value, range }) }
}
