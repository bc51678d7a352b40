//! Completion scripts and manual pages, made of the definitions of the command line.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;

use super::remote::{fail, print};
use super::{Cli, ExitCode};

/// `io-engine completions SHELL`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// `io-engine man [DIR]`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// An existing directory to write a page for each sub-command to; without it, the page of the
    /// program itself goes to standard output
    #[arg(value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}

/// Prints a completion script.
pub(super) fn completions(args: &CompletionsArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "io-engine", &mut script);
    print(String::from_utf8_lossy(&script).trim_end())
}

/// Writes manual pages.
pub(super) fn man(args: &ManArgs) -> ExitCode {
    let mut root = Cli::command();
    root.build();
    let Some(dir) = &args.dir else {
        return match page(root) {
            Ok(page) => print(String::from_utf8_lossy(&page).trim_end()),
            Err(error) => fail(ExitCode::Failure, &format!("cannot write the page: {error}")),
        };
    };
    match pages(root, dir) {
        Ok(()) => ExitCode::Success,
        Err((path, error)) => fail(ExitCode::Resources, &format!("cannot write {path:?}: {error}")),
    }
}

fn page(command: clap::Command) -> std::io::Result<Vec<u8>> {
    let title = name_of(&command).to_uppercase();
    let mut page = Vec::new();
    Man::new(command).title(title).render(&mut page)?;
    Ok(page)
}

/// The name with those of the commands above, once these are built.
fn name_of(command: &clap::Command) -> String {
    command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned()
}

/// A page for a command and each of those below it, `io-engine-pool-create.1` and the like.
fn pages(command: clap::Command, dir: &Path) -> Result<(), (PathBuf, std::io::Error)> {
    let name = name_of(&command);
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        pages(below.clone(), dir)?;
    }
    let path = dir.join(format!("{name}.1"));
    let written = page(command).and_then(|page| std::fs::write(&path, page));
    written.map_err(|error| (path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sub_command_has_a_page() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(man(&ManArgs { dir: Some(dir.path().to_owned()) }), ExitCode::Success);
        for name in
            ["io-engine", "io-engine-perf", "io-engine-pool-create", "io-engine-vol-snapshot"]
        {
            let page = std::fs::read_to_string(dir.path().join(format!("{name}.1"))).expect(name);
            assert!(page.contains(".TH") && page.contains("SYNOPSIS"), "{page}");
        }
        let create = std::fs::read_to_string(dir.path().join("io-engine-pool-create.1"));
        assert!(create.expect("a page").contains("Size of the journal"));
        let nowhere = dir.path().join("none");
        assert_eq!(man(&ManArgs { dir: Some(nowhere) }), ExitCode::Resources);
    }

    #[test]
    fn every_shell_has_a_script() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "io-engine", &mut script);
            let script = String::from_utf8(script).expect("text");
            assert!(script.contains("journal-mb") && script.contains("http-token-file"), "{shell}");
        }
    }
}
