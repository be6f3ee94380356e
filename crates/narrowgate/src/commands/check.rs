//! `narrowgate check`: reads the config and says what is wrong, with file, line and column.

use crate::cli::{self, USAGE, print_out};
use crate::config_file;
use alloc::vec::Vec;
use narrowgate_sys::eprintln;
use narrowgate_sys::path::{Path, PathBuf};
use narrowgate_sys::process::ExitCode;

/// Exit 0 and one line on stdout if the config is fine; exit 2 and a line for every mistake on stderr if it is not.
pub fn main(config: &Path, args: &[PathBuf]) -> ExitCode {
    if let Some(code) = cli::no_more_arguments("check", args) {
        return code;
    }
    let mut notes = Vec::new();
    match config_file::read(config, &mut notes) {
        Ok(read) => {
            notes.iter().for_each(|note| eprintln!("note: {note}"));
            print_out(&format!("{}: fine: {}\n", config.display(), narrowgate_wire::config::summary(&read)));
            ExitCode::SUCCESS
        }
        Err(lines) => {
            lines.iter().for_each(|line| eprintln!("{line}"));
            ExitCode::from(USAGE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_says_whether_the_config_is_fine() {
        let dir = std::env::temp_dir().join(format!("narrowgate-check-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = PathBuf::from(dir.join("narrowgate"));
        let code = |text: &str, args: &[PathBuf]| {
            std::fs::write(&path, text).unwrap();
            main(&path, args)
        };
        let fine = "config uplink 'wan'\n\toption device 'eth0'\n";
        let codes = [
            code(fine, &[]),
            code(fine, &["more".into()]),
            code("config uplink 'wan'\n", &[]),
            code("", &[]),
        ];
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(codes, [0, USAGE, USAGE, USAGE].map(ExitCode::from));
        assert_eq!(main(&path, &[]), ExitCode::from(USAGE), "there is no file any more");
    }
}
