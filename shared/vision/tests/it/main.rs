//! Decoding as strangers would have it: every orientation, every format, every kind of damage.

#[cfg(test)]
mod damage;
#[cfg(test)]
mod formats;
