//! What is special to the embedded file.
