//! How Storm writes numbers, durations and ids in JSON.
//!
//! Not here: which of them stands where. Invariant: the same value gives the same text on every machine; no locale is asked.

/// A number with exactly three decimals.
pub(crate) fn n3(number: f64) -> String {
    format!("{number:.3}")
}

/// A number with three decimals; `0` if there is none.
pub(crate) fn n3_or_0(number: Option<f64>) -> String {
    number.map_or_else(|| "0".to_owned(), n3)
}

/// `1d 5h 30m 10s`: every unit below the largest is there; nothing for zero.
pub(crate) fn pretty_duration(seconds: u64) -> String {
    let units = [(seconds / 86_400, 'd'), (seconds / 3600 % 24, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let shown = units.iter().skip_while(|(count, _)| *count == 0);
    shown.map(|(count, unit)| format!("{count}{unit}")).collect::<Vec<_>>().join(" ")
}

/// As a form encodes it: a space is `+`, what is neither letter, digit nor one of `*-._` is `%XX` in UTF-8.
pub(crate) fn form_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => encoded.push('+'),
            byte if byte.is_ascii_alphanumeric() || b"*-._".contains(&byte) => encoded.push(byte.into()),
            byte => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

/// A host in a URL: an IPv6 address stands in brackets.
pub(crate) fn url_host(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

/// Whether a component or a stream is the runtime's own.
pub(crate) fn is_system(name: &str) -> bool {
    name.starts_with("__")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_show_every_unit_below_the_largest() {
        for (seconds, shown) in [
            (0, ""),
            (1, "1s"),
            (60, "1m 0s"),
            (600, "10m 0s"),
            (3600, "1h 0m 0s"),
            (86_400, "1d 0h 0m 0s"),
            (106_210, "1d 5h 30m 10s"),
            (u64::MAX, "213503982334601d 7h 0m 15s"),
        ] {
            assert_eq!(pretty_duration(seconds), shown);
        }
    }

    #[test]
    fn numbers_have_three_decimals() {
        assert_eq!((n3(0.0), n3(0.0484), n3(1234.5)), ("0.000".into(), "0.048".into(), "1234.500".into()));
        assert_eq!((n3_or_0(None), n3_or_0(Some(0.0))), ("0".into(), "0.000".into()));
    }

    #[test]
    fn ids_are_encoded_as_forms_do() {
        assert_eq!(form_encoded("word-count-1-1700000000"), "word-count-1-1700000000");
        assert_eq!(form_encoded("[24-24] a/ä*~"), "%5B24-24%5D+a%2F%C3%A4*%7E");
        assert_eq!(
            (url_host("::1"), url_host("[::1]"), url_host("a.b")),
            ("[::1]".into(), "[::1]".into(), "a.b".into())
        );
    }
}
