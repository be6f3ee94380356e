//! UCI text: what libuci reads is read as the same, what it refuses is refused at its place.

use narrowgate_wire::uci::{File, Names, Place, Section, Setting, Value, Word, parse, write};
use proptest::prelude::*;

/// A file without places: type, name and settings of each section.
type Plain = Vec<(String, Option<String>, Vec<(bool, String, String)>)>;

fn plain(file: &File) -> Plain {
    let setting = |s: &Setting| (s.list, s.name.text.clone(), s.value.text.clone());
    let section = |s: &Section| {
        let name = s.name.as_ref().map(|n| n.text.clone());
        (s.kind.text.clone(), name, s.settings.iter().map(setting).collect())
    };
    file.sections.iter().map(section).collect()
}

fn fine(text: &str) -> File {
    let (file, mistakes) = parse(text, Names::OfAll);
    assert!(mistakes.is_empty(), "{text:?}: {mistakes:?}");
    file
}

/// The value of option `x` in a section that holds nothing else.
fn value(written: &str) -> String {
    let file = fine(&format!("config t\n\toption x {written}\n"));
    assert_eq!((file.sections.len(), file.sections[0].settings.len()), (1, 1), "{written:?}");
    file.sections[0].settings[0].value.text.clone()
}

/// Places and messages of all mistakes.
fn refused(text: &str) -> Vec<(u32, u32, String)> {
    let (_, mistakes) = parse(text, Names::OfAll);
    mistakes.into_iter().map(|m| (m.place.line, m.place.column, m.message)).collect()
}

#[test]
fn quoting_is_libucis() {
    for (written, meant) in [
        ("eth0", "eth0"),
        ("'eth 0'", "eth 0"),
        ("\"eth 0\"", "eth 0"),
        ("'a'\"b\"c", "abc"),
        (r"'it'\''s'", "it's"),
        (r#""say \"yes\" \\ no""#, r#"say "yes" \ no"#),
        (r"'a\b'", r"a\b"),
        (r"a\ b", "a b"),
        (r"\#\;\'", "#;'"),
        ("'#;'", "#;"),
        ("'one\ntwo'", "one\ntwo"),
        ("\"one\ntwo\"", "one\ntwo"),
        ("\"one\\\ntwo\"", "onetwo"),
        ("'one\\\ntwo'", "one\\\ntwo"),
        ("one\\\ntwo", "onetwo"),
        ("\\\n\t\ttwo", "two"),
        ("one\\\r\ntwo", "onetwo"),
        ("''", ""),
        ("\"\"", ""),
        ("a # comment", "a"),
        ("a#comment", "a"),
        ("'a'#comment", "a"),
        ("a\r", "a"),
        ("grüße", "grüße"),
        ("'a';", "a"),
        ("a=b", "a=b"),
    ] {
        let written = written.strip_suffix(';').unwrap_or(written);
        assert_eq!(value(written), meant, "{written:?}");
    }
}

#[test]
fn a_comment_that_touches_a_word_is_remembered() {
    let file = fine("config t\n\tlist a 192.0.2.1#53\n\tlist a '192.0.2.1#53' # a port\n");
    let cut: Vec<bool> = file.sections[0].settings.iter().map(|s| s.value.cut).collect();
    assert_eq!(cut, [true, false]);
}

#[test]
fn commands_have_short_forms_and_separators() {
    let long = fine("package net\nconfig a 'b'\n\toption c 'd'\n\tlist e 'f'\nconfig g\n");
    let short = fine("p net\nc a b ; o c d ;l e 'f';c g\n");
    assert_eq!(plain(&long), plain(&short));
    assert_eq!(long.package.unwrap().text, "net");
    for harmless in [
        "config a 'b'; # and nothing more\n",
        "config a 'b';",
        "config a b;\n",
        "config a ;\n",
        "config a;\r\n",
    ] {
        assert_eq!(plain(&fine(harmless)).len(), 1, "{harmless:?}");
    }
}

#[test]
fn sections_of_one_name_are_one_and_anonymous_ones_are_many() {
    let file =
        fine("config a 'n'\n\toption x 1\nconfig a\nconfig a ''\nconfig a 'n'\n\toption x 2\n\toption y 3\n");
    assert_eq!(file.sections.len(), 3);
    assert!(matches!(file.sections[0].value("x"), Some(Value::One(w)) if w.text == "2"));
    assert_eq!(file.sections[0].settings.iter().map(|s| s.block).collect::<Vec<_>>(), [1, 4, 4]);
    assert!(file.sections[1].name.is_none() && file.sections[2].name.is_none());
}

#[test]
fn options_override_and_lists_grow() {
    let text = "config a\n\toption x 1\n\tlist x 2\n\tlist x 3\n\tlist y 1\n\toption y 2\n\toption z 1\n\toption z ''\n";
    let file = fine(text);
    let words = |v: Option<Value<'_>>| match v {
        None => vec![],
        Some(Value::One(w)) => vec![w.text.clone()],
        Some(Value::Many(all)) => all.iter().map(|w| w.text.clone()).collect(),
    };
    let section = &file.sections[0];
    assert_eq!(words(section.value("x")), ["1", "2", "3"]);
    assert!(matches!(section.value("y"), Some(Value::One(w)) if w.text == "2"));
    assert_eq!(section.value("z"), None);
    assert_eq!(section.value("none"), None);
}

#[test]
fn every_word_knows_its_place() {
    let file = fine("# ä\nconfig grün 'wan'".replace("grün", "a").as_str());
    assert_eq!(file.sections[0].kind.place, Place { line: 2, column: 8 });
    let file = fine("config a\n\toption x 'ä' ; option y \\\n\t  \"z\"\n");
    let places: Vec<_> = file.sections[0].settings.iter().map(|s| s.value.place).collect();
    assert_eq!(places, [Place { line: 2, column: 11 }, Place { line: 3, column: 4 }]);
}

#[test]
fn what_libuci_refuses_is_refused_at_its_place() {
    for (text, line, column, part) in [
        ("option x 1\n", 1, 1, "no section is open"),
        ("# a\n  list x 1\n", 2, 3, "no section is open"),
        ("config\n", 1, 1, "type is missing"),
        ("config ''\n", 1, 1, "type is missing"),
        ("config a b c\n", 1, 12, "too many words"),
        ("config a 'b-c'\n", 1, 10, "no name for a section"),
        ("config ä\n", 1, 8, "no name for a section's type"),
        ("config 'a b'\n", 1, 8, "no name for a section's type"),
        ("config a\n\toption x\n", 2, 2, "value is missing"),
        ("config a\n\toption\n", 2, 2, "a name and a value is missing"),
        ("config a\n\toption x-y 1\n", 2, 9, "no name for a option"),
        ("config a\n\toption x 1 2\n", 2, 13, "too many words"),
        ("config a\n\toption x 'abc\n", 2, 11, "never closed"),
        ("config a\n\toption x \"abc\\\"\n", 2, 11, "never closed"),
        ("config a\n\toptoin x 1\n", 2, 2, "unknown command"),
        ("config a\n\t'option' x 1\n", 2, 2, "unknown command"),
        ("// hello\n", 1, 1, "unknown command"),
        ("\\\nconfig a\n", 1, 1, "unknown command"),
        ("config a b ;\n", 1, 12, "no command behind it"),
        ("config a 'b';\n", 1, 13, "no command behind it"),
        ("config a b ;; config b\n", 1, 12, "no command behind it"),
        ("config a b; config c\n", 1, 11, "libuci loses what follows"),
        ("config a ; option b c\n", 1, 10, "looks for the section's name"),
        ("; config a\n", 1, 1, "unknown command"),
        ("package\n", 1, 1, "name is missing"),
        ("package 'a/b'\n", 1, 9, "no name for a package"),
        ("config a 'n'\nconfig b 'n'\n", 2, 10, "section of this name and the type a"),
        ("\u{feff}config a\n", 1, 1, "byte order mark"),
        ("config a\n\toption x \0\n", 2, 11, "zero byte"),
    ] {
        let found = refused(text);
        assert_eq!(found.len(), 1, "{text:?}: {found:?}");
        let (l, c, message) = &found[0];
        assert_eq!((*l, *c), (line, column), "{text:?}: {message}");
        assert!(message.contains(part), "{text:?}: {message}");
        assert!(!message.contains('\n'), "{text:?}: {message}");
    }
}

#[test]
fn a_mistake_does_not_hide_the_next_one() {
    let text = "optoin\nconfig a b-c\n\toption x 1\nconfig d\n\toption y\n\toption z 1\n";
    let places: Vec<_> = refused(text).into_iter().map(|(l, c, _)| (l, c)).collect();
    assert_eq!(places, [(1, 1), (2, 10), (5, 2)]);
    let (file, _) = parse(text, Names::OfAll);
    assert_eq!(plain(&file), [("d".into(), None, vec![(false, "z".into(), "1".into())])]);
}

#[test]
fn a_forgotten_quote_is_shown_where_it_was_forgotten_and_hides_nothing() {
    let text =
        "config a\n\toption x 'one\n\toption y 'two'\n\toption z \"three\n\toptoin\n\toption w 'four'\n";
    let found: Vec<_> =
        refused(text).into_iter().map(|(l, c, m)| (l, c, m.contains("never closed"))).collect();
    assert_eq!(found, [(2, 11, true), (4, 11, true), (5, 2, false)]);
    let (file, _) = parse(text, Names::OfAll);
    let names: Vec<_> = file.sections[0].settings.iter().map(|s| s.name.text.as_str()).collect();
    assert_eq!(names, ["y", "w"]);
    assert!(file.sections[0].refused);
}

#[test]
fn names_may_be_unique_within_their_type_only() {
    let text = "config uplink 'wan'\nconfig resolver 'wan'\nconfig uplink 'wan'\n";
    let (file, mistakes) = parse(text, Names::OfEachType);
    assert_eq!((file.sections.len(), mistakes.len()), (2, 0));
    assert_eq!(refused(text).len(), 1);
}

#[test]
fn real_world_shapes_are_read() {
    // (file, sections, values to find: section by number, option, values)
    let gluon = fine(include_str!("corpus/network.gluon"));
    assert_eq!(gluon.sections.len(), 13);
    let named = |file: &File, name: &str| -> Section {
        file.sections.iter().find(|s| s.name.as_ref().is_some_and(|n| n.text == name)).expect(name).clone()
    };
    let one = |s: &Section, option: &str| match s.value(option) {
        Some(Value::One(w)) => w.text.clone(),
        other => panic!("{option}: {other:?}"),
    };
    let many = |s: &Section, option: &str| match s.value(option) {
        Some(Value::Many(all)) => all.iter().map(|w| w.text.clone()).collect::<Vec<_>>(),
        other => panic!("{option}: {other:?}"),
    };
    assert_eq!(one(&named(&gluon, "wan"), "peerdns"), "0");
    assert_eq!(one(&named(&gluon, "wan6_lookup"), "mark"), "0x01/0x01");
    assert_eq!(one(&named(&gluon, "wan6_unreachable"), "target"), "::/0");

    let dsa = fine(include_str!("corpus/network.dsa"));
    let bridge = dsa.sections.iter().find(|s| s.name.is_none() && s.kind.text == "device").unwrap();
    assert_eq!(many(bridge, "ports"), ["lan1", "lan2", "lan3", "lan4"]);
    assert_eq!(dsa.sections.iter().filter(|s| s.kind.text == "bridge-vlan").count(), 2);
    assert_eq!(many(&named(&dsa, "lan"), "ipaddr"), ["192.168.1.1/24", "10.0.0.1/8"]);

    let swconfig = fine(include_str!("corpus/network.swconfig"));
    assert_eq!(one(&named(&swconfig, "lan"), "ifname"), "eth0.1 eth1.1");
    assert_eq!(one(&named(&swconfig, "wan"), "password"), "it's \"secret\" #1; \\o/");
    assert_eq!(swconfig.package.as_ref().unwrap().text, "network");

    let odd = fine(include_str!("corpus/network.by-hand"));
    assert_eq!(one(&named(&odd, "wan"), "device"), "eth0.2");
    assert_eq!(many(&named(&odd, "wan"), "dns"), ["192.0.2.53", "2001:db8::53"]);
    assert_eq!(one(&named(&odd, "wwan"), "pincode"), "0000");
    assert_eq!(one(&named(&odd, "vpn"), "description"), "one\ntwo");
    let crlf =
        fine(&include_str!("corpus/network.by-hand").replace('\n', "\r\n").replace("one\r\n", "one\n"));
    assert_eq!(plain(&odd), plain(&crlf));
}

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_]{1,12}"
}

fn file() -> impl Strategy<Value = Plain> {
    let text = proptest::collection::vec(
        prop_oneof![
            Just('\''),
            Just('"'),
            Just('\\'),
            Just('\n'),
            Just('#'),
            Just(';'),
            Just(' '),
            "[^\0]".prop_map(|s| s.chars().next().unwrap_or('x'))
        ],
        0..12,
    );
    let setting = (any::<bool>(), name(), text.prop_map(|c| c.into_iter().collect::<String>()));
    let section = ("[!-~]{1,10}", proptest::option::of(name()), proptest::collection::vec(setting, 0..6));
    proptest::collection::vec(section, 0..6).prop_map(|mut sections| {
        let mut names = std::collections::HashSet::new();
        for (_, name, _) in &mut sections {
            if name.as_ref().is_some_and(|n| !names.insert(n.clone())) {
                *name = None;
            }
        }
        sections
    })
}

fn built(plain: &Plain) -> File {
    let setting = |(list, name, value): &(bool, String, String)| Setting {
        list: *list,
        name: Word::new(name),
        value: Word::new(value),
        block: 1,
    };
    let sections = plain.iter().map(|(kind, name, settings)| Section {
        kind: Word::new(kind),
        name: name.as_ref().map(Word::new),
        settings: settings.iter().map(setting).collect(),
        refused: false,
    });
    File { package: None, sections: sections.collect() }
}

/// One way of many to write a text: each character in a quoting of its own choice.
fn in_some_quoting(text: &str, choices: &[u8]) -> String {
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        match choices[n % choices.len()] % 4 {
            0 if c != '\'' => out.extend(['\'', c, '\'']),
            1 if !matches!(c, '"' | '\\') => out.extend(['"', c, '"']),
            2 if !c.is_ascii() || c.is_ascii_alphanumeric() => out.push(c),
            3 if c.is_ascii_alphanumeric() => out.extend(['\\', '\n', c]),
            _ if c == '\n' => out.push_str("\"\n\""),
            _ => out.extend(['"', '\\', c, '"']),
        }
    }
    if out.is_empty() { "''".to_owned() } else { out }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(plain_file in file()) {
        let text = write(&built(&plain_file));
        let (read, mistakes) = parse(&text, Names::OfAll);
        prop_assert_eq!(mistakes, vec![]);
        prop_assert_eq!(plain(&read), plain_file);
    }

    #[test]
    fn every_quoting_means_the_same(text in "[^\0]{0,20}", choices in proptest::collection::vec(any::<u8>(), 1..20)) {
        let written = in_some_quoting(&text, &choices);
        let (read, mistakes) = parse(&format!("config t\n\toption x {written}\n"), Names::OfAll);
        prop_assert_eq!(mistakes, vec![]);
        prop_assert_eq!(&read.sections[0].settings[0].value.text, &text);
    }

    #[test]
    fn any_text_is_read_or_refused_within_itself(text in any::<String>()) {
        within(&text)?;
    }

    #[test]
    fn any_row_of_pieces_is_read_or_refused_within_itself(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just("config"), Just("option"), Just("list"), Just("package"), Just("c"), Just("o"), Just(" "), Just("\t"), Just("\n"), Just("\r\n"), Just("'"),
                Just("\""), Just("\\"), Just("#"), Just(";"), Just("a"), Just("wan"), Just("-"), Just("ä"), Just("\0"), Just("\u{feff}"),
            ],
            0..40,
        )
    ) {
        within(&pieces.concat())?;
    }
}

/// Mistakes lie in the text; what is read without one is written and read back as the same.
fn within(text: &str) -> Result<(), TestCaseError> {
    for names in [Names::OfAll, Names::OfEachType] {
        let (file, mistakes) = parse(text, names);
        for mistake in &mistakes {
            let line = text.split('\n').nth(mistake.place.line as usize - 1);
            let length = line.map(|l| l.chars().count());
            prop_assert!(
                length.is_some_and(|l| mistake.place.column as usize <= l + 1),
                "{:?}: {:?}",
                text,
                mistake
            );
            prop_assert!(!mistake.to_string().chars().any(char::is_control), "{:?}", mistake);
        }
        let (again, mistakes) = parse(&write(&file), names);
        prop_assert_eq!(mistakes, vec![]);
        prop_assert_eq!(plain(&again), plain(&file));
    }
    Ok(())
}
