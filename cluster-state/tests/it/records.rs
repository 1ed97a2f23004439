//! Golden text of every record.
