# A small evaluator of NixOS modules: as much of nixpkgs' lib as nix/ uses, for machines without nixpkgs. Modules are
# functions, sets or files, with imports; options have a type, a default and priorities; what no option takes is refused.
let
  inherit (builtins)
    attrNames
    concatLists
    concatStringsSep
    elem
    filter
    foldl'
    functionArgs
    isAttrs
    isBool
    isFunction
    isInt
    isList
    isPath
    isString
    listToAttrs
    map
    mapAttrs
    stringLength
    substring
    toJSON
    ;

  # ---- sets, lists and texts

  filterAttrs =
    keep: set: removeAttrs set (filter (name: !keep name set.${name}) (attrNames set));
  optional = condition: value: if condition then [ value ] else [ ];
  optionals = condition: values: if condition then values else [ ];
  optionalString = condition: text: if condition then text else "";
  hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
  hasSuffix =
    end: text:
    stringLength end <= stringLength text
    && substring (stringLength text - stringLength end) (stringLength end) text == end;
  removeSuffix =
    end: text: if hasSuffix end text then substring 0 (stringLength text - stringLength end) text else text;
  genAttrs =
    names: make:
    listToAttrs (
      map (name: {
        inherit name;
        value = make name;
      }) names
    );
  unique = foldl' (seen: name: if elem name seen then seen else seen ++ [ name ]) [ ];
  isTagged = tag: value: isAttrs value && value._type or null == tag;

  # ---- what a definition can be wrapped in

  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };
  mkDefault = mkOverride 1000;
  mkForce = mkOverride 50;
  # Smaller is stronger; a plain definition has this one.
  plain = 100;
  # An option's own default is the weakest of all.
  weakest = 1500;

  # The definitions of a value, free of conditions and merges: [{ value, priority }].
  discharge =
    priority: value:
    if isTagged "if" value then
      optionals value.condition (discharge priority value.content)
    else if isTagged "merge" value then
      concatLists (map (discharge priority) value.contents)
    else if isTagged "override" value then
      discharge value.priority value.content
    else
      [ { inherit value priority; } ];

  # ---- types: what a value must be, and what several definitions of it come to

  one =
    place: values:
    if builtins.length (unique values) == 1 then
      builtins.head values
    else
      throw "The option `${place}' has conflicting definition values: ${toJSON values}";
  simple = name: check: {
    inherit name check;
    merge = one;
  };
  nested = check: merge: name: { inherit name check merge; };
  attrsOf =
    type:
    nested isAttrs (
      place: sets:
      let
        names = unique (concatLists (map attrNames sets));
        definitions = name: concatLists (map (set: optional (set ? ${name}) set.${name}) sets);
        value = name: evaluate "${place}.${name}" type (definitions name);
        present = filter (name: concatLists (map (discharge plain) (definitions name)) != [ ]) names;
      in
      genAttrs present value
    ) "attribute set of ${type.name}";
  listOf =
    type:
    nested isList (
      place: lists: map (value: evaluate "${place}.*" type [ value ]) (concatLists lists)
    ) "list of ${type.name}";
  isPackage = value: isAttrs value && value ? outPath;
  types = {
    bool = simple "boolean" isBool;
    int = simple "signed integer" isInt;
    str = simple "string" isString;
    path = simple "path" (
      value: isPath value || isPackage value || (isString value && hasPrefix "/" value)
    );
    package = simple "package" (value: isPackage value || isPath value);
    raw = simple "raw value" (_: true);
    lines = {
      name = "strings concatenated with \"\\n\"";
      check = isString;
      merge = _: concatStringsSep "\n";
    };
    enum = words: simple "one of ${toJSON words}" (value: elem value words);
    nullOr = type: {
      name = "null or ${type.name}";
      check = value: value == null || type.check value;
      merge =
        place: values: if filter (value: value != null) values == [ ] then null else type.merge place values;
    };
    oneOf =
      alternatives:
      let
        of = value: builtins.head (filter (type: type.check value) alternatives);
      in
      {
        name = concatStringsSep " or " (map (type: type.name) alternatives);
        check = value: builtins.any (type: type.check value) alternatives;
        merge = place: values: (of (builtins.head values)).merge place values;
      };
    submodule =
      module:
      nested isAttrs (
        place: sets:
        (evalModules {
          modules = [ module ] ++ map (config: { inherit config; }) sets;
          prefix = place;
        }).config
      ) "submodule";
    # Whatever JSON can say.
    json = {
      name = "JSON value";
      check =
        value:
        value == null
        || isBool value
        || isInt value
        || builtins.isFloat value
        || isString value
        || isPath value
        || isAttrs value
        || isList value;
      merge =
        place: values:
        let
          all = test: builtins.all test values;
        in
        if all (value: isAttrs value && !isPackage value) then
          (attrsOf types.json).merge place values
        else if all isList then
          (listOf types.json).merge place values
        else
          one place values;
    };
    inherit attrsOf listOf;
  };

  # The value of a place from all its definitions: those of the strongest priority, merged by the type.
  evaluate =
    place: type: definitions:
    let
      found = concatLists (map (discharge plain) definitions);
      strongest = foldl' (least: this: if this.priority < least then this.priority else least) (weakest + 1) found;
      values = map (this: this.value) (filter (this: this.priority == strongest) found);
      wrong = filter (value: !type.check value) values;
    in
    if values == [ ] then
      throw "The option `${place}' was accessed but has no value defined. Try setting the option."
    else if wrong != [ ] then
      throw "A definition for option `${place}' is not of type `${type.name}'."
    else
      type.merge place values;

  # ---- modules

  mkOption = attributes: attributes // { _type = "option"; };
  mkEnableOption =
    what:
    mkOption {
      type = types.bool;
      default = false;
      description = "Whether to enable ${what}.";
    };

  # All modules that a module leads to, each with imports, options and config. Like nixpkgs, a file counts once.
  load =
    arguments: module:
    let
      isFile = isPath module || isString module;
      value = if isFile then import module else module;
      # The names alone decide what is passed, so that a module may take `config`, which is made of all modules.
      called = if isFunction value then value (mapAttrs (name: _: arguments.${name}) (functionArgs value) // arguments) else value;
      whole = called ? config || called ? options;
    in
    concatLists (map (load arguments) (called.imports or [ ]))
    ++ [
      {
        key = if isFile then toString module else null;
        options = called.options or { };
        config =
          if whole then
            called.config or { }
          else
            removeAttrs called [
              "imports"
              "options"
              "_file"
            ];
      }
    ];
  once = foldl' (
    seen: module:
    if module.key != null && builtins.any (other: other.key == module.key) seen then seen else seen ++ [ module ]
  ) [ ];

  # One tree of options from many. An option that two modules declare would be a mistake here.
  declare =
    place: trees:
    let
      names = unique (concatLists (map attrNames trees));
      at =
        name:
        let
          here = concatLists (map (tree: optional (tree ? ${name}) tree.${name}) trees);
        in
        if builtins.all (isTagged "option") here then
          if builtins.length here == 1 then builtins.head here else throw "The option `${place}${name}' is declared twice."
        else
          declare "${place}${name}." here;
    in
    genAttrs names at;

  # A definition as plain sets, with what wrapped it around each of their values: which names there are must not hang on
  # conditions, for these ask other options.
  spread =
    definition:
    if isTagged "if" definition then
      map (mapAttrs (_: mkIf definition.condition)) (spread definition.content)
    else if isTagged "merge" definition then
      concatLists (map spread definition.contents)
    else if isTagged "override" definition then
      map (mapAttrs (_: mkOverride definition.priority)) (spread definition.content)
    else
      [ definition ];

  settle =
    place: options: definitions:
    let
      sets = concatLists (map spread definitions);
      unknown = filter (name: !options ? ${name}) (concatLists (map attrNames sets));
      below = name: concatLists (map (set: optional (set ? ${name}) set.${name}) sets);
    in
    if unknown != [ ] then
      throw "The option `${place}${builtins.head unknown}' does not exist."
    else
      mapAttrs (
        name: option:
        let
          path = "${place}${name}";
          defaults = optional (option ? default) (mkOverride weakest option.default);
        in
        if isTagged "option" option then
          (option.apply or (value: value)) (evaluate path option.type (below name ++ defaults))
        else
          settle "${path}." option (below name)
      ) options;

  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? "",
    }:
    let
      arguments = specialArgs // {
        inherit lib config options;
      };
      loaded = once (concatLists (map (load arguments) modules));
      options = declare "" (map (module: module.options) loaded);
      config = settle (optionalString (prefix != "") "${prefix}.") options (map (module: module.config) loaded);
    in
    {
      inherit config options;
    };

  lib = {
    inherit
      evalModules
      filterAttrs
      genAttrs
      hasPrefix
      mkDefault
      mkEnableOption
      mkForce
      mkIf
      mkMerge
      mkOption
      mkOverride
      optional
      optionalString
      optionals
      removeSuffix
      types
      ;
    literalExpression = text: {
      _type = "literalExpression";
      inherit text;
    };
    licenses.mit.spdxId = "MIT";
    platforms.linux = [ "x86_64-linux" ];
  };
in
lib
