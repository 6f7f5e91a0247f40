//! One mistake is one diagnostic, nothing that is right is told as wrong, and what is too long or too much is said in bounded
//! space.

use portcullis_policy::Format;

use crate::codes::RULE;
use crate::marks::{lines, load, place, unmark};

/// A name that was perhaps never meant as one is not advised.
#[test]
fn a_lost_set_is_not_offered() {
    let text = "[sets]\nmy set = [\"10.0.0.1\"]\n[[rule]]\naction = \"deny\"\nfrom = \"@mx\"\n";
    let found = load(text, Format::Toml).diagnostics;
    let unknown = found.iter().find(|found| found.code == "unknown-set");
    let unknown = unknown.unwrap_or_else(|| panic!("{}", lines(&found)));
    assert_eq!(unknown.suggestion, None, "{unknown}");
    assert!(!unknown.to_string().contains("@my"), "{unknown}");
}

/// What is missing because of a mistake is no mistake of its own.
#[test]
fn one_mistake_is_one_diagnostic() {
    for (format, marked) in [
        (
            Format::Toml,
            "[sets]\noffice «[\"10.0.0.1\"]\n[[rule]]\naction = \"deny\"\nfrom = \"@office\"\n",
        ),
        (
            Format::Toml,
            "[sets]\n«\"my set\" = [\"10.0.0.1\"]\n[[rule]]\naction = \"deny\"\nfrom = \"@my set\"\n",
        ),
        (
            Format::Toml,
            "[sets]\nmy «set = [\"10.0.0.1\"]\n[[rule]]\naction = \"deny\"\nfrom = \"@my set\"\n",
        ),
        (
            Format::Toml,
            "include = «\"gone.toml\"\n[[rule]]\naction = \"deny\"\nfrom = \"@defined there\"\n",
        ),
        (Format::Toml, "[[rule]]\naction «\"deny\"\nport = 22\n"),
        (
            Format::Toml,
            "[[rule]]\naction = \"deny\"\nsource «port = 22\n",
        ),
        (Format::Toml, "[[rule]]\naction = \"limit\"\nrate = «20/s\n"),
        (
            Format::Json,
            "{\"sets\": {\n\"office\" «ten\n}, \"rules\": [\n{\"action\": \"deny\", \"from\": \"@office\"}]}",
        ),
        (Format::Json, "[{\"action\": «allow, \"port\": 22}]"),
        (Format::RulesTxt, "set office«\ndeny from @office\n"),
        (Format::RulesTxt, "feed office file«\ndeny from @office\n"),
        (Format::RulesTxt, "limit tcp rate «20\n"),
    ] {
        let (text, places) = unmark(marked);
        let found = load(&text, format).diagnostics;
        let found_places: Vec<_> = found.iter().map(place).collect();
        assert_eq!(found_places, places, "{text}\n{}", lines(&found));
    }
}

/// What is wrong with one part of a value does not hide what is wrong with another, which is another mistake.
#[test]
fn every_mistake_in_a_value_is_told_at_once() {
    for (format, marked) in [
        (
            Format::Toml,
            "include = «\"gone.toml\"\n[sets]\noffice = [\"192.0.2.0/24\"]\n[[rule]]\naction = \"deny\"\nfrom = «\"@ofice\"\n",
        ),
        (
            Format::Toml,
            "[[rule]]\naction = \"limit\"\nrate = { connections = 2, «packets = 3, per = «\"1w\" }\n",
        ),
        (
            Format::Toml,
            "[[rule]]\naction = \"limit\"\nrate = { connections = «0, per = «\"1w\", burst = «0 }\n",
        ),
        (
            Format::Toml,
            "[[rule]]\naction = \"limit\"\nrate = «{ per = «\"1w\" }\n",
        ),
        (
            Format::Toml,
            "[[rule]]\naction = \"deny\"\npayload = { contains = «\"\", min_len = 9, «max_len = 2 }\n",
        ),
        (
            Format::Toml,
            "[[rule]]\naction = \"deny\"\npayload = { contains = «\"\", «regex = «\"(\" }\n",
        ),
        (
            Format::Toml,
            "[[rule]]\naction = \"deny\"\nsni = «\"a b\"\n«http_host = «\"c d\"\n",
        ),
        (
            Format::Toml,
            "[sets]\nfeed = { «url = \"https://a.example/list\", format = «\"nettset\", «colour = 1 }\n",
        ),
        (
            Format::Json,
            "{\"rules\": [{\"action\": \"limit\", \"rate\": {\"connections\": 2, «\"packets\": 3, \"per\": «\"1w\"}}]}",
        ),
        (
            Format::Json,
            "{\"rules\": [{\"action\": \"deny\", \"payload\": {\"contains\": «\"\", \"min_len\": 9, «\"max_len\": 2}}]}",
        ),
        (
            Format::RulesTxt,
            "limit tcp rate 20 «conections/«fortnight\n",
        ),
        (Format::RulesTxt, "limit tcp rate «many/«fortnight\n"),
        (
            Format::RulesTxt,
            "deny tcp payload contains «\"\" min-len 9 «max-len 2\n",
        ),
        (Format::RulesTxt, "deny tcp at 3« min-len 9 «max-len 2\n"),
        (Format::RulesTxt, "default «sideways «denny\n"),
    ] {
        let (text, places) = unmark(marked);
        let found = load(&text, format).diagnostics;
        let found_places: Vec<_> = found.iter().map(place).collect();
        assert_eq!(found_places, places, "{text}\n{}", lines(&found));
    }
}

#[test]
fn dates_of_toml_may_have_a_blank() {
    for written in [
        "2027-01-01 00:00:00Z",
        "2027-01-01t00:00:00z",
        "2027-01-01T02:00:00+02:00",
    ] {
        let text = format!("{RULE}expires = {written}\n");
        let loaded = load(&text, Format::Toml);
        let policy = loaded
            .policy
            .unwrap_or_else(|| panic!("{}", lines(&loaded.diagnostics)));
        let expires = policy.plan().rules[0].expires.unwrap();
        assert_eq!(
            expires.to_string(),
            "2027-01-01T00:00:00.000000Z",
            "{written}"
        );
    }
}

#[test]
fn long_names_and_patterns() {
    for (code, text) in [
        (
            "name-too-long",
            format!("{RULE}name = \"{}\"\n", "x".repeat(129)),
        ),
        (
            "pattern-too-long",
            format!(
                "{RULE}payload = {{ contains = \"{}\" }}\n",
                "x".repeat(4_097)
            ),
        ),
        (
            "pattern-too-long",
            format!(
                "{RULE}payload = {{ bytes = \"{}\" }}\n",
                "00".repeat(4_097).replacen('0', "1", 1)
            ),
        ),
        (
            "pattern-too-long",
            format!("{RULE}payload = {{ regex = \"{}\" }}\n", "x".repeat(4_097)),
        ),
    ] {
        let found = load(&text, Format::Toml).diagnostics;
        assert_eq!(found.len(), 1, "{}", lines(&found));
        assert_eq!(found[0].code, code);
    }
    for text in [
        format!("{RULE}name = \"{}\"\n", "x".repeat(128)),
        format!(
            "{RULE}payload = {{ contains = \"{}\" }}\n",
            "x".repeat(4_096)
        ),
    ] {
        assert!(load(&text, Format::Toml).policy.is_some());
    }
}

#[test]
fn ceilings_hold() {
    let rules = "deny tcp port 1\n".repeat(100_001);
    let found = load(&rules, Format::RulesTxt);
    assert_eq!(found.diagnostics.len(), 1);
    assert_eq!(
        (found.diagnostics[0].code, place(&found.diagnostics[0])),
        ("too-many", (100_001, 1))
    );
    let sets: String = (0..1_001).map(|n| format!("set s{n} 10.0.0.1\n")).collect();
    let found = load(&sets, Format::RulesTxt);
    assert_eq!(found.diagnostics.len(), 1, "{}", lines(&found.diagnostics));
    assert_eq!(
        (found.diagnostics[0].code, place(&found.diagnostics[0])),
        ("too-many", (1_001, 5))
    );
    let large = format!("# {}\n", "x".repeat(16 << 20));
    let found = load(&large, Format::Toml);
    assert_eq!(found.diagnostics[0].code, "too-large");
    // Thousands of mistakes are counted, not told.
    let wrong = "alow\n".repeat(5_000);
    let found = load(&wrong, Format::RulesTxt);
    assert_eq!(found.diagnostics.len(), 1_001);
    assert_eq!(found.diagnostics[1_000].message, "4000 more are not shown");
    assert!(found.policy.is_none());
}
