//! File names out of URLs, which nobody can be trusted to have chosen well.

use std::collections::HashSet;

/// Longer names are cut: file systems take 255 bytes, and a temporary name needs room for its suffix.
const LONGEST: usize = 120;

/// Derives a name from a URL: `https://example.com/a/b.html?c` gives `example.com_a_b.html_c`.
///
/// The name has only ASCII letters, digits, `-`, `_` and `.`, and does not start with a dot: it cannot leave its
/// directory, hide, or be taken for an option's value by a shell. A user name and password in the URL stay out of it. If
/// it is taken, also but for the case of its letters, it gets a number: `-2`, `-3` and so on.
pub(crate) fn file_name(url: &str, taken: &mut HashSet<String>) -> String {
    let rest = url.split_once("://").map_or(url, |(_scheme, rest)| rest);
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();

    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let mut name: String = host.chars().chain(path.chars()).map(safe).collect();
    name.truncate(LONGEST);
    let name = name.trim_start_matches(['.', '-', '_']).trim_end_matches('_');
    let name = if name.is_empty() { "page" } else { name };

    let numbered = (2..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.to_owned())
        .chain(numbered)
        .find(|candidate| taken.insert(candidate.to_ascii_lowercase()))
        .expect("there are more numbers than URLs")
}
