//! The names of the API, for documents that pass through. Exports need them too, so they are made where those are.

pub(crate) use facewire_gallery::camel;
