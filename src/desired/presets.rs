//! Presets: short forms of objects that many people declare, as data files (`presets/*.json`).
//!
//! A preset is an object of `dbus.objects` with places left open, `$parameter:NAME`. Filled in, it is what it stands for
//! and nothing else: the model and the plan know no presets.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::object::Origins;

/// What a preset's place takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// A text that is not empty.
    Text,
    /// `true` or `false`.
    Boolean,
    /// A list of texts.
    Texts,
    /// The name of a property.
    Property,
    /// The name of an interface.
    Interface,
    /// Any value.
    Value,
}

/// A place that a preset leaves open.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// What it takes.
    #[serde(rename = "type")]
    pub(super) kind: Kind,
    /// It must be given.
    #[serde(default)]
    pub required: bool,
    /// What counts where it is not given; otherwise the property that it stands in is not managed.
    #[serde(default)]
    pub default: Option<Json>,
    /// What it means, for people.
    pub about: String,
}

/// A preset.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// Its name: that of its file.
    pub name: String,
    /// What it is for, for people.
    pub about: String,
    /// The places it leaves open, by name.
    pub parameters: BTreeMap<String, Parameter>,
    /// An example: what is given to it.
    pub example: Map<String, Json>,
    /// The object that it stands for.
    pub object: Json,
    /// The `busctl` calls that the example stands for: those that read, and those that write.
    pub busctl: Vec<String>,
}

/// What is given to a preset.
pub(super) type Given = BTreeMap<String, Json>;

/// What stands before the name of an open place.
const OPEN: &str = "$parameter:";

/// Key under which a text may be a reference.
const ARGS: &str = "args";

/// Key under which what is not given is left out.
const PROPERTIES: &str = "properties";

macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        [$(include_str!(concat!("../../presets/", $name, ".json"))),+]
    };
}

static PRESETS: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    let files = files![
        "firewalld-service",
        "firewalld-service-runtime",
        "hostname",
        "keymap",
        "locale",
        "networkmanager-connection",
        "timezone",
        "unit-property",
    ];
    // A test reads each of them by itself, and says what is wrong with it.
    files.iter().filter_map(|file| serde_json::from_str(file).ok()).collect()
});

/// All presets, by name.
#[must_use]
pub fn presets() -> &'static [Preset] {
    &PRESETS
}

impl Preset {
    /// The object in full, with what is given.
    pub(super) fn fill(&self, given: &Given) -> Json {
        fill(&self.object, given, false).unwrap_or_default()
    }

    /// Where in the entry the parts of that object were written.
    pub(super) fn origins(&self, given: &Given) -> Origins {
        let mut places = BTreeMap::new();
        originate(&self.object, given, "", &mut places);
        Origins::new(places)
    }
}

/// Notes what of the object, from `part` on, comes from which of the open places.
fn originate(value: &Json, given: &Given, part: &str, places: &mut BTreeMap<String, String>) {
    let with = |name: &str| format!("/with/{name}");
    match value {
        Json::String(text) => {
            if let Some(name) = text.strip_prefix(OPEN) {
                places.insert(part.to_owned(), with(name));
            }
        }
        Json::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                originate(item, given, &format!("{part}/{index}"), places);
            }
        }
        Json::Object(fields) => {
            for (key, value) in fields {
                let open = key.strip_prefix(OPEN);
                let filled = open.and_then(|name| given.get(name)?.as_str()).unwrap_or(key);
                let inner = format!("{part}/{filled}");
                if let Some(name) = open {
                    places.insert(inner.clone(), with(name));
                }
                originate(value, given, &inner, places);
            }
        }
        _ => {}
    }
}

/// Fills the open places; `None` where one is not given.
fn fill(value: &Json, given: &Given, in_args: bool) -> Option<Json> {
    Some(match value {
        Json::String(text) => match text.strip_prefix(OPEN) {
            Some(name) if in_args => escaped(given.get(name)?),
            Some(name) => given.get(name)?.clone(),
            None => value.clone(),
        },
        Json::Array(items) => items.iter().map(|item| fill(item, given, in_args)).collect::<Option<Vec<_>>>()?.into(),
        Json::Object(fields) => {
            let mut filled = Map::new();
            for (key, value) in fields {
                let name = match key.strip_prefix(OPEN) {
                    Some(name) => given.get(name)?.as_str()?,
                    None => key,
                };
                let inner = match value {
                    Json::Object(properties) if key == PROPERTIES => {
                        let known = |(key, value): (&String, &Json)| {
                            let one = Json::Object(Map::from_iter([(key.clone(), value.clone())]));
                            fill(&one, given, false)
                        };
                        let known = properties.iter().filter_map(known);
                        Json::Object(known.filter_map(|one| one.as_object().cloned()).flatten().collect())
                    }
                    value => fill(value, given, in_args || key == ARGS)?,
                };
                filled.insert(name.to_owned(), inner);
            }
            Json::Object(filled)
        }
        other => other.clone(),
    })
}

/// What somebody gives for an argument stands for itself, also where it begins as a reference does.
fn escaped(value: &Json) -> Json {
    match value {
        Json::String(text) if text.starts_with('$') => format!("${text}").into(),
        Json::Array(items) => items.iter().map(escaped).collect(),
        Json::Object(fields) => Json::Object(fields.iter().map(|(key, value)| (key.clone(), escaped(value))).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use serde_json::json;

    use super::*;
    use crate::desired::{parse, spell};

    #[test]
    fn every_file_is_a_preset_and_its_example_a_good_object() {
        let mut names = BTreeSet::new();
        for file in fs::read_dir("presets").unwrap() {
            let path = file.unwrap().path();
            let preset: Preset = serde_json::from_str(&fs::read_to_string(&path).unwrap())
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(path.file_stem().unwrap().to_str(), Some(preset.name.as_str()));
            // With everything, and with no more than must be.
            let required: Map<String, Json> = preset
                .example
                .iter()
                .filter(|(name, _)| preset.parameters[*name].required)
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            for with in [preset.example.clone(), required] {
                let document = json!({"dbus": {"objects": {"x": {"preset": preset.name, "with": with}}}});
                let short = parse(&document.to_string()).unwrap_or_else(|error| panic!("{}: {error}", preset.name));
                // It can be written in full, and means the same.
                assert_eq!(parse(&spell(&short)).unwrap(), short, "{}", preset.name);
                assert_eq!(short.objects.len(), 1, "{}", preset.name);
            }
            assert!(!preset.busctl.is_empty());
            names.insert(preset.name);
        }
        let known: BTreeSet<String> = presets().iter().map(|preset| preset.name.clone()).collect();
        assert_eq!(known, names);
    }

    #[test]
    fn what_is_given_stands_for_itself() {
        let object = json!({"create": {"args": ["$parameter:a", "$value"]}, "properties": {"A": "$parameter:a",
                            "B": {"value": "$parameter:b"}}});
        let given = Given::from([("a".to_owned(), json!("$value"))]);
        let filled = json!({"create": {"args": ["$$value", "$value"]}, "properties": {"A": "$value"}});
        assert_eq!(fill(&object, &given, false), Some(filled));
    }
}
