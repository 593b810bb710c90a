//! Decoding as strangers would have it: every orientation, every format, every kind of damage.

mod damage;
mod formats;
