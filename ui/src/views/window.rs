//! The window that a caller chose.
//!
//! Not here: what was counted in it (`statistics`). Invariant: a window that nobody counts is allowed, and counts nothing.

use nimbus_api::topology::Window;

use super::format::pretty_duration;

/// Storm's name of all time.
const ALL_TIME: &str = ":all-time";

/// A window as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// The words of the query.
    pub(crate) asked: String,
    /// Which one it is; `None` for a number of seconds that nobody counts.
    pub(crate) window: Option<Window>,
}

impl Chosen {
    /// From the query; nothing is all time.
    ///
    /// # Errors
    /// A sentence, if it is no integer.
    pub(crate) fn parse(asked: Option<&str>) -> Result<Chosen, String> {
        let asked = asked.unwrap_or(ALL_TIME).to_owned();
        if asked == ALL_TIME {
            return Ok(Chosen { asked, window: Some(Window::AllTime) });
        }
        let Ok(seconds) = asked.parse::<i32>() else {
            let shown: String = asked.chars().take(40).flat_map(char::escape_debug).collect();
            return Err(format!("the window `{shown}` is no number of seconds: use 600, 10800, 86400 or {ALL_TIME}"));
        };
        let window = Window::ALL.into_iter().find(|window| window.secs() == u64::try_from(seconds).ok());
        Ok(Chosen { asked, window: window.filter(|window| *window != Window::AllTime) })
    }

    /// `10m 0s`, `All time`.
    pub(crate) fn hint(&self) -> String {
        if self.asked == ALL_TIME {
            return "All time".to_owned();
        }
        pretty_duration(self.asked.parse().unwrap_or(0))
    }
}

/// Storm's name of a window.
pub(crate) fn name(window: Window) -> String {
    window.secs().map_or_else(|| ALL_TIME.to_owned(), |seconds| seconds.to_string())
}

/// A window's name for people.
pub(crate) fn pretty(window: Window) -> String {
    window.secs().map_or_else(|| "All time".to_owned(), pretty_duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_storms() {
        let chosen = |asked| Chosen::parse(asked).map(|chosen| (chosen.window, chosen.hint()));
        assert_eq!(chosen(None), Ok((Some(Window::AllTime), "All time".into())));
        assert_eq!(chosen(Some(":all-time")), Ok((Some(Window::AllTime), "All time".into())));
        assert_eq!(chosen(Some("600")), Ok((Some(Window::TenMinutes), "10m 0s".into())));
        assert_eq!(chosen(Some("10800")), Ok((Some(Window::ThreeHours), "3h 0m 0s".into())));
        assert_eq!(chosen(Some("86400")), Ok((Some(Window::Day), "1d 0h 0m 0s".into())));
        assert_eq!(chosen(Some("7")), Ok((None, "7s".into())));
        assert_eq!(chosen(Some("-1")), Ok((None, "".into())));
        assert_eq!(
            chosen(Some("ten\n")),
            Err("the window `ten\\n` is no number of seconds: use 600, 10800, 86400 or :all-time".into())
        );
    }
}
