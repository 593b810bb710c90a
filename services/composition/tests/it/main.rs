//! The composition on real servers.

#[cfg(test)]
mod migrate;
