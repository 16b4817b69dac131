//! The pages for people: README.md and docs/*.md, their blocks, their code in the text, and their links.

use std::{fs, path::Path, sync::LazyLock};

/// The most bytes that the README may have: it is read in one go.
const README_BYTES: usize = 12 * 1024;

/// A page.
#[derive(Debug)]
pub(crate) struct Page {
    /// Its path in the project.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// All pages: the README first, the others by name.
pub(crate) fn pages() -> &'static [Page] {
    static PAGES: LazyLock<Vec<Page>> = LazyLock::new(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = fs::read_dir(root.join("docs")).expect("there is a folder docs");
        let files = folder.map(|entry| entry.expect("it can be read").path());
        let files = files.filter(|file| file.extension().is_some_and(|extension| extension == "md"));
        let names = files.filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned()));
        let mut paths: Vec<_> = names.map(|name| format!("docs/{name}")).collect();
        paths.sort();
        paths.insert(0, "README.md".to_owned());
        let read = |path: String| {
            let text = fs::read_to_string(root.join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            Page { path, text }
        };
        paths.into_iter().map(read).collect()
    });
    &PAGES
}

/// The page with this path.
pub(crate) fn page(path: &str) -> &'static Page {
    pages().iter().find(|page| page.path == path).unwrap_or_else(|| panic!("there is no {path}"))
}

/// The blocks of that language on all pages, without their fences.
pub(crate) fn blocks(language: &str) -> Vec<&'static str> {
    pages().iter().flat_map(|page| page.blocks(language)).map(|block| block.text).collect()
}

/// A block of a page.
#[derive(Debug)]
pub(crate) struct Block {
    /// Without its fences.
    pub(crate) text: &'static str,
    /// The paragraph in front of it.
    pub(crate) introduction: &'static str,
}

impl Page {
    /// The blocks of that language.
    pub(crate) fn blocks(&'static self, language: &str) -> Vec<Block> {
        let fence = format!("```{language}\n");
        let mut blocks = Vec::new();
        for (at, _) in self.text.match_indices(&fence) {
            let rest = &self.text[at + fence.len()..];
            let text = rest.split("\n```").next().unwrap_or_default();
            let before = self.text[..at].trim_end();
            blocks.push(Block { text, introduction: before.rsplit("\n\n").next().unwrap_or_default() });
        }
        blocks
    }

    /// The text without its blocks.
    pub(crate) fn prose(&self) -> String {
        self.text.split("```").step_by(2).collect::<Vec<_>>().join("\n")
    }

    /// The targets of its links.
    fn links(&self) -> Vec<String> {
        let prose = self.prose();
        let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        targets.map(str::to_owned).collect()
    }

    /// The anchors of its headings, as GitHub makes them.
    fn anchors(&self) -> Vec<String> {
        let prose = self.prose();
        let headings =
            prose.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
        headings
            .map(|heading| {
                let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
                kept.collect::<String>().to_lowercase().replace(' ', "-")
            })
            .collect()
    }
}

#[test]
fn the_readme_is_short_and_links_to_every_page() {
    let readme = page("README.md");
    assert!(readme.text.len() <= README_BYTES, "{} bytes", readme.text.len());
    let links: Vec<_> =
        readme.links().iter().map(|link| link.split('#').next().unwrap_or_default().to_owned()).collect();
    for page in pages().iter().skip(1) {
        assert!(links.contains(&page.path), "the README has no link to {}", page.path);
    }
}

#[test]
fn every_link_leads_to_something() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut checked = 0;
    for page in pages() {
        for link in page.links().iter().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let from = Path::new(&page.path).parent().expect("a file has a folder");
            let target = if path.is_empty() { root.join(&page.path) } else { root.join(from).join(path) };
            let target = target.canonicalize().unwrap_or_else(|error| panic!("{}: {link}: {error}", page.path));
            if !anchor.is_empty() {
                let target = target.strip_prefix(root).unwrap_or(&target).to_string_lossy().into_owned();
                let anchors = self::page(&target).anchors();
                assert!(anchors.iter().any(|other| other == anchor), "{}: no {link} among {anchors:?}", page.path);
            }
            checked += 1;
        }
    }
    assert!(checked > 40, "only {checked} links are found");
}
