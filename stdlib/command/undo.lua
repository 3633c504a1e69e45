-- `neap undo`: resume's other direction.
local M = {}

M.run = require("command.resume").undo

return M
