//! Who submits a topology.
//!
//! Not here: whether they may (nobody is asked to prove who they are). Invariant: a name that cannot be found keeps no topology from running.

/// Where the machine's users stand.
const USERS: &str = "/etc/passwd";

/// The user of this process: by `USER`, by `LOGNAME`, or by its number; `None` if none of them tells.
pub(crate) fn owner() -> Option<String> {
    let variable = |name| std::env::var(name).ok().filter(|user| !user.is_empty());
    variable("USER").or_else(|| variable("LOGNAME")).or_else(|| {
        let users = std::fs::read(USERS).ok()?;
        name_of(&String::from_utf8_lossy(&users), rustix::process::getuid().as_raw())
    })
}

/// The name of a number in a file like `/etc/passwd`.
fn name_of(users: &str, number: u32) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, found) = (fields.next()?, fields.nth(1)?);
        (!name.is_empty() && found.parse() == Ok(number)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_the_name_of_its_line() {
        let users = "# who is here\nroot:x:0:0:root:/root:/bin/sh\nada:x:1000:100:,,,:/home/ada:\n:x:7:7::/:\nbob\n";
        assert_eq!(name_of(users, 0).as_deref(), Some("root"));
        assert_eq!(name_of(users, 1000).as_deref(), Some("ada"));
        for number in [7, 100, 1] {
            assert_eq!(name_of(users, number), None, "{number}");
        }
    }
}
