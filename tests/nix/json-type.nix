# The type of whatever JSON can say, of nixpkgs' own types.
{ lib }:
let
  inherit (lib) types;
  value = types.nullOr (
    types.oneOf [
      types.bool
      types.int
      types.float
      types.str
      types.path
      (types.attrsOf value)
      (types.listOf value)
    ]
  ) // { description = "JSON value"; };
in
value
