//! Fetching with the real package managers.

#[cfg(test)]
mod fetching;
