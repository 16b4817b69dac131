//! The page: its blocks, its commands, and what it prints below them.

use anyhow::ensure;

/// The page.
pub(super) const PAGE: &str = include_str!("../../../docs/coming-from-consul-template.md");

/// From one of these on, a line of output is another one each time.
const CHANGES: [&str; 4] = ["index ", "pid ", ", up ", " http"];
/// What stands for lines that the page leaves out.
const LEFT_OUT: &str = "…";

/// The blocks of that language, without their fences.
pub(super) fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    PAGE.split(&fence).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// A command of the page, and what it prints.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) command: String,
    output: Vec<&'static str>,
}

/// All of them, in order.
pub(super) fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in blocks("console").into_iter().flat_map(str::lines) {
        if let Some(command) = line.strip_prefix("$ ") {
            let command = command.split("  #").next().unwrap_or_default().trim_end().to_owned();
            steps.push(Step { command, output: Vec::new() });
        } else if let Some(step) = steps.last_mut() {
            step.output.push(line);
        }
    }
    steps
}

impl Step {
    /// Whether the page prints these words.
    pub(super) fn prints(&self, words: &str) -> bool {
        self.output.iter().any(|line| line.contains(words))
    }

    /// Fails unless each line that the page prints comes, in the page's order, with the paths of this host.
    pub(super) fn compare(&self, said: &str, localised: impl Fn(&str) -> String) -> anyhow::Result<()> {
        let mut lines = said.lines().map(lasting);
        for expected in self.output.iter().filter(|line| **line != LEFT_OUT) {
            let expected = localised(expected);
            ensure!(
                lines.any(|line| line == lasting(&expected)),
                "there is no `{expected}` where the page has it in:\n{said}"
            );
        }
        Ok(())
    }
}

/// A line without what is another each time, without versions, and without the width of its columns.
fn lasting(line: &str) -> String {
    let end = CHANGES.iter().filter_map(|words| line.find(words)).min().unwrap_or(line.len());
    let version = |word: &str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    let commit = |word: &str| word.len() == 9 && word.starts_with('(') && word.ends_with(')');
    line[..end].split_whitespace().filter(|word| !version(word) && !commit(word)).collect::<Vec<_>>().join(" ")
}
