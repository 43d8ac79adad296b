//! The Debian mirror, taken from the machine's own apt sources (sources.list(5)).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The URI of the mirror that serves `codename`'s `main` component.
///
/// # Errors
/// When no enabled entry does; names the files that were read.
pub(crate) fn mirror(codename: &str) -> Result<String> {
    let files = source_files(Path::new("/etc/apt"))?;
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let deb822 = file.extension().is_some_and(|extension| extension == "sources");
        let found = if deb822 { find_deb822(&text, codename) } else { find_one_line(&text, codename) };
        if let Some(uri) = found {
            return Ok(uri);
        }
    }
    let names = files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>();
    bail!("no apt source for `{codename} main` among: {}", names.join(", "))
}

/// `sources.list`, then the files of `sources.list.d` that apt reads, by name.
fn source_files(apt: &Path) -> Result<Vec<PathBuf>> {
    let mut parts = Vec::new();
    let folder = apt.join("sources.list.d");
    if folder.is_dir() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "list" || extension == "sources") {
                parts.push(path);
            }
        }
    }
    parts.sort();
    let list = apt.join("sources.list");
    Ok(list.is_file().then_some(list).into_iter().chain(parts).collect())
}

/// `deb [options] URI SUITE COMPONENT...`
fn find_one_line(text: &str, codename: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let entry = line.split('#').next()?.trim().strip_prefix("deb")?;
        let entry = entry.strip_prefix([' ', '\t'])?.trim_start();
        let entry = match entry.strip_prefix('[') {
            Some(options) => options.split_once(']')?.1,
            None => entry,
        };
        let mut words = entry.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        (suite == codename && words.any(|component| component == "main")).then(|| uri.to_owned())
    })
}

/// Stanzas of `Field: values`, apart by empty lines; a line that begins with a space continues the field.
fn find_deb822(text: &str, codename: &str) -> Option<String> {
    let without_comments = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    without_comments.split("\n\n").find_map(|stanza| {
        let unfolded = stanza.replace("\n ", " ").replace("\n\t", " ");
        let field = |name: &str| {
            let mut fields = unfolded.lines().filter_map(|line| line.split_once(':'));
            let (_, values) = fields.find(|(key, _)| key.trim().eq_ignore_ascii_case(name))?;
            Some(values.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        let has =
            |name: &str, wanted: &str| field(name).is_some_and(|values| values.iter().any(|v| v == wanted));
        let enabled = !has("Enabled", "no");
        (enabled && has("Types", "deb") && has("Suites", codename) && has("Components", "main"))
            .then(|| field("URIs")?.into_iter().next())
            .flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_entries() {
        let text = "# deb http://commented/debian bookworm main\n\
                    deb-src http://source/debian bookworm main\n\
                    deb http://security/debian-security bookworm-security main\n\
                    deb http://extra/debian bookworm contrib\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://mirror/debian bookworm contrib main # ours\n";
        assert_eq!(find_one_line(text, "bookworm").as_deref(), Some("http://mirror/debian"));
        assert_eq!(find_one_line(text, "trixie"), None);
    }

    #[test]
    fn deb822_stanzas() {
        let text = "Types: deb\nURIs: http://off/debian\nSuites: bookworm\nComponents: main\nEnabled: no\n\n\
                    Types: deb-src\nURIs: http://source/debian\nSuites: bookworm\nComponents: main\n\n\
                    types: deb deb-src\n# a remark\nURIs: http://mirror/debian\n http://second/debian\n\
                    Suites: bookworm bookworm-updates\nComponents: main\n";
        assert_eq!(find_deb822(text, "bookworm").as_deref(), Some("http://mirror/debian"));
        assert_eq!(find_deb822(text, "bookworm-security"), None);
    }

    #[test]
    fn other_files_are_left_out() {
        let apt = tempfile::tempdir().unwrap();
        fs::create_dir(apt.path().join("sources.list.d")).unwrap();
        for name in ["b.list", "a.sources", "c.list.disabled"] {
            fs::write(apt.path().join("sources.list.d").join(name), "").unwrap();
        }
        let files = source_files(apt.path()).unwrap();
        let names: Vec<_> = files.iter().filter_map(|file| file.file_name()?.to_str()).collect();
        assert_eq!(names, ["a.sources", "b.list"]);
    }
}
