package fetch

// For the tests outside.
var PartName = partName
