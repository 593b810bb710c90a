//! facewire-vision
