//! A topology's secret: what all of its workers know and nobody else does.
//!
//! Not here: proving it (`worker::transfer::handshake`). Invariant: it cannot be printed, and is written into files of mode
//! 0600 alone.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// 32 random bytes; in JSON 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

impl Secret {
    /// From random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Secret(bytes)
    }

    /// For the proof, and nothing else.
    pub fn reveal(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(not shown)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&digits)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        let fits = digits.len() == 64 && digits.is_ascii();
        for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
            let digits = fits.then(|| &digits[at..at + 2]);
            // What was found stays out of the message.
            *byte = digits
                .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                .ok_or_else(|| serde::de::Error::custom("a secret has 64 hexadecimal digits"))?;
        }
        Ok(Secret(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_and_read_but_not_shown() {
        let secret = Secret::new(std::array::from_fn(|at| at as u8 * 8));
        let json = serde_json::to_string(&secret).unwrap();
        assert_eq!(json, r#""0008101820283038404850586068707880889098a0a8b0b8c0c8d0d8e0e8f0f8""#);
        assert_eq!(serde_json::from_str::<Secret>(&json).unwrap(), secret);
        assert_eq!(format!("{secret:?}"), "Secret(not shown)");
        let error = serde_json::from_str::<Secret>(r#""f00""#).unwrap_err().to_string();
        assert_eq!(error, "a secret has 64 hexadecimal digits");
    }
}
