//! Between workers: frames, links, permits.
